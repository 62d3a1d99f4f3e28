/** For tests: throw-away Supabase projects with Edge Functions. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readConfig } from '../config.ts'
import { type FunctionsHost, type FunctionsOptions, startFunctions } from './host.ts'

export interface TestProject extends FunctionsHost {
  directory: string
  /** All that the functions have written. */
  lines: string[]
  /** Calls a function as the gateway would. */
  call(path: string, init?: RequestInit): Promise<Response>
  write(path: string, text: string): void
}

/** Shared by all tests and runs: compiling the bootstrap takes longer than most tests. */
const sharedCache = fileURLToPath(
  new URL('../../../../node_modules/.cache/functions-test', import.meta.url),
)

export interface TestOptions extends Partial<FunctionsOptions> {
  /** Begin without any downloaded or compiled module. */
  emptyCache?: boolean
}

/** A running host for a project made of these files; keys are paths below `supabase/`. */
export function testProject(
  files: Record<string, string>,
  { emptyCache = false, ...options }: TestOptions = {},
): TestProject {
  const directory = mkdtempSync(join(tmpdir(), 'functions-test-'))
  const write = (path: string, text: string) => {
    const file = join(directory, 'supabase', path)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  }
  for (const [path, text] of Object.entries({ 'config.toml': open(files), ...files })) {
    write(path, text)
  }
  const lines: string[] = []
  const host = startFunctions({
    config: readConfig(directory),
    env: {},
    authorize: async () => null,
    denoDir: emptyCache ? join(directory, 'deno') : sharedCache,
    log: (line) => lines.push(line),
    ...options,
  })
  return {
    ...host,
    directory,
    lines,
    call(path, init) {
      const slug = path.split(/[/?]/, 1)[0] ?? ''
      const request = new Request(`http://stack.test:54321/functions/v1/${path}`, init)
      return host.handle(slug, request)
    },
    write,
    async stop() {
      await host.stop()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** Functions that need no JWT, unless the test brings its own config.toml. */
function open(files: Record<string, string>): string {
  const slugs = Object.keys(files).map((path) => path.match(/^functions\/(\w+)\/index.ts$/)?.[1])
  return slugs.map((slug) => (slug ? `[functions.${slug}]\nverify_jwt = false\n` : '')).join('')
}

/** Waits until `check` gives a value, at most `withinMs`. */
export async function eventually<Value>(
  check: () => Value | Promise<Value>,
  withinMs = 5_000,
): Promise<NonNullable<Value>> {
  const deadline = Date.now() + withinMs
  for (;;) {
    const value = await check()
    if (value) return value
    if (Date.now() > deadline) throw new Error(`Still not so after ${withinMs} ms: ${check}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Whether a process runs; one that has ended and only waits to be reaped does not. */
export function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    if (process.platform !== 'linux') return true
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}
