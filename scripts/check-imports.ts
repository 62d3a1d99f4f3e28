import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')

/** Who may import whom: the first rule whose `from` matches decides. Tests may import anything. */
const rules: { from: RegExp; may: RegExp[] }[] = [
  {
    from: /^packages\/shared\/src\/(models|guard|audit|memory)\//,
    may: [/^zod$/, /^packages\/shared\/src\/errors\.ts$/],
  },
  { from: /^packages\/shared\/src\/engine\//, may: [/^zod$/, /^packages\/shared\/src\//] },
  {
    from: /^packages\/shared\/src\/[^/]+$/,
    may: [/^zod$/, /^fastest-levenshtein$/, /^packages\/shared\/src\/[^/]+$/],
  },
  {
    from: /^packages\/client\/src\//,
    may: [/^@supabase\//, /^react$/, /^packages\/client\/src\//],
  },
  {
    from: /^packages\/local\/src\//,
    may: [/^(?!@nightshift\/|apps\/|functions\/|packages\/(?!local\/))/],
  },
  {
    from: /^functions\//,
    may: [/^@supabase\/supabase-js$/, /^functions\/_kit\//, /^packages\/shared\/src\//],
  },
  {
    from: /^apps\/host\/src\//,
    may: [
      /^node:/,
      /^@supabase\/supabase-js$/,
      /^zod$/,
      /^@nightshift\/(shared|client)/,
      /^apps\/host\//,
    ],
  },
  { from: /^apps\/cli\/src\//, may: [/^(?!apps\/(?!cli\/)|functions\/|packages\/)/] },
  {
    from: /^apps\/console\/src\//,
    may: [/^(?!node:|@nightshift\/(?!client)|apps\/(?!console\/)|functions\/|packages\/)/],
  },
]

/** Only models/ may know a provider's SDK, and each only where it is spoken. */
const sdkHomes: Record<string, RegExp> = {
  '@anthropic-ai/sdk': /^packages\/shared\/src\/models\/anthropic(_\w+)?\.ts$/,
  openai: /^packages\/shared\/src\/models\/openai(_\w+)?\.ts$/,
}

/** What breaks the one direction of imports in one source, as `file: reason`. */
export function badImports(file: string, text: string): string[] {
  return [...importsOf(text)].flatMap((specifier) => {
    const problem = judge(file, specifier)
    return problem ? [`${file}: ${problem}`] : []
  })
}

/** The same for the whole tree. */
export function allBadImports(): string[] {
  return sourceFiles().flatMap((file) => badImports(file, readFileSync(join(root, file), 'utf8')))
}

function* importsOf(text: string): Generator<string> {
  const pattern =
    /(?:^|\n)\s*(?:import|export)\s[^'"\n;]*?(?:\{[^}]*\}[^'"\n;]*?)?from\s*['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)|(?:^|\n)import\s+['"]([^'"]+)['"]/g
  for (const match of text.matchAll(pattern)) yield match[1] ?? match[2] ?? match[3] ?? ''
}

function judge(file: string, specifier: string): string | null {
  const isRelative = specifier.startsWith('.')
  if (isRelative && !/\.(ts|tsx|mjs|json|css)$/.test(specifier))
    return `import "${specifier}" needs its file ending`
  const target = isRelative ? relative(root, resolve(root, dirname(file), specifier)) : specifier
  const home = sdkHomes[specifier]
  if (home) return home.test(file) ? null : `only ${home.source} may import "${specifier}"`
  const rule = rules.find(({ from }) => from.test(file))
  if (!rule) return null
  if (dirname(target) === dirname(file) && isRelative) return null
  return rule.may.some((allowed) => allowed.test(target)) ? null : `may not import "${specifier}"`
}

/** Tracked TypeScript sources without tests and their fixtures. */
function sourceFiles(): string[] {
  const listed = execFileSync('git', ['ls-files', '-co', '--exclude-standard', '*.ts', '*.tsx'], {
    cwd: root,
    encoding: 'utf8',
  })
  return listed
    .split('\n')
    .filter(
      (file) =>
        file && !/\.(test|bench)\.tsx?$|\/(testing|harness|actors)\.ts$|\.d\.ts$/.test(file),
    )
}

if (import.meta.main) {
  const bad = allBadImports()
  for (const line of bad) console.error(line)
  process.exitCode = bad.length ? 1 : 0
}
