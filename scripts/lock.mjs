// Completes package-lock.json for platforms other than the one it was written on. npm leaves out
// optional binaries that the registry it asked does not serve, and then refuses its own file in
// `npm ci`. Run after every `npm install` that changes the lock: node scripts/lock.mjs [--check]
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const path = join(dirname(fileURLToPath(import.meta.url)), '../package-lock.json')

/** Entries that are missing, by their place in the lock. */
export function missingEntries(lock) {
  const missing = {}
  for (const [place, entry] of Object.entries(lock.packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      const target = platformOf(name)
      if (target && /^\d/.test(version) && !resolve(lock.packages, place, name)) {
        missing[`node_modules/${name}`] = {
          version,
          ...(entry.dev ? { dev: true } : {}),
          ...target,
          optional: true,
        }
      }
    }
  }
  return missing
}

/** As Node looks for it: beside the dependent, then folder by folder upwards. */
function resolve(packages, from, name) {
  for (
    let place = from;
    ;
    place = place.includes('/node_modules/')
      ? place.slice(0, place.lastIndexOf('/node_modules/'))
      : ''
  ) {
    if (packages[`${place ? `${place}/` : ''}node_modules/${name}`]) return true
    if (place === '') return false
  }
}

/** Which machines a binary package is for, read from its name; null where the name does not say. */
function platformOf(name) {
  const words = name.split(/[-/_]/)
  const os = {
    darwin: 'darwin',
    linux: 'linux',
    win32: 'win32',
    windows: 'win32',
    android: 'android',
    freebsd: 'freebsd',
    openbsd: 'openbsd',
    netbsd: 'netbsd',
    sunos: 'sunos',
    aix: 'aix',
    openharmony: 'openharmony',
  }
  const cpu = {
    arm64: 'arm64',
    x64: 'x64',
    64: 'x64',
    ia32: 'ia32',
    arm: 'arm',
    ppc64: 'ppc64',
    ppc64le: 'ppc64',
    s390x: 's390x',
    riscv64: 'riscv64',
    loong64: 'loong64',
    mips64el: 'mips64el',
    wasm32: 'wasm32',
  }
  const found = {
    os: words.map((word) => os[word]).find(Boolean),
    cpu: words.map((word) => cpu[word]).find(Boolean),
  }
  if (!found.cpu || (!found.os && found.cpu !== 'wasm32')) return null
  const libc = words.some((word) => word.startsWith('musl'))
    ? 'musl'
    : words.some((word) => word.startsWith('gnu') || word === 'glibc')
      ? 'glibc'
      : null
  return {
    cpu: [found.cpu],
    ...(found.os ? { os: [found.os] } : {}),
    ...(libc ? { libc: [libc] } : {}),
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const lock = JSON.parse(readFileSync(path, 'utf8'))
  const missing = missingEntries(lock)
  const names = Object.keys(missing)
  if (process.argv.includes('--check')) {
    for (const name of names) console.error(`missing in package-lock.json: ${name}`)
    process.exit(names.length === 0 ? 0 : 1)
  }
  const packages = Object.fromEntries(
    Object.entries({ ...lock.packages, ...missing }).sort(([left], [right]) =>
      left < right ? -1 : 1,
    ),
  )
  writeFileSync(path, `${JSON.stringify({ ...lock, packages }, null, 2)}\n`)
  console.log(`${names.length} entries added`)
}
