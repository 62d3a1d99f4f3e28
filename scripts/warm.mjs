// Part of installation: fetches what the Edge Functions need into Deno's cache, so that starting,
// testing and the demo contact no outside host. Plain JavaScript: it runs on the system's Node.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const deno = join(root, 'node_modules/deno/bin.cjs')
const cache = join(root, 'node_modules/.cache/deno')
const stamp = join(cache, 'warm')

for (const folder of existsSync(deno) ? functionFolders() : []) warm(folder)

function functionFolders() {
  return readdirSync(join(root, 'functions'))
    .map((name) => join(root, 'functions', name))
    .filter((folder) => existsSync(join(folder, 'index.ts')) && isStale(folder))
}

/** Only a changed deno.json can need something new. */
function isStale(folder) {
  return !existsSync(stamp) || statSync(join(folder, 'deno.json')).mtimeMs > statSync(stamp).mtimeMs
}

function warm(folder) {
  const result = spawnSync(
    process.execPath,
    [deno, 'cache', '--quiet', '--config', 'deno.json', 'index.ts'],
    {
      cwd: folder,
      env: {
        ...process.env,
        DENO_DIR: cache,
        DENO_NO_PACKAGE_JSON: '1',
        DENO_TLS_CA_STORE: 'system,mozilla',
      },
      stdio: ['ignore', 'ignore', 'pipe'],
      encoding: 'utf8',
    },
  )
  if (result.status === 0) {
    writeFileSync(stamp, '')
    utimesSync(stamp, new Date(), new Date())
  } else
    console.error(
      `Could not fetch what ${folder} needs; the first start will try again\n${result.stderr}`,
    )
}
