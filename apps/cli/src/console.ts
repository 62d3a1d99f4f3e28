import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import { extname, join } from 'node:path'

export interface ConsoleOptions {
  /** TCP port on 127.0.0.1; a free one when 0. */
  port: number
  /** Base URL that the browser uses for the API. */
  apiUrl: string
  publishableKey: string
  /** Root of the checkout. */
  projectDir: string
}

export interface Console {
  /** `http://127.0.0.1:<port>` */
  url: string
  stop(): Promise<void>
}

interface Page {
  type: string
  body: Buffer
  /** File names of assets hold a hash of their content, so they never change. */
  immutable: boolean
}

const types: Record<string, string> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml',
}

/** Serves the console, built anew when its sources are newer than the last build (about 1 s). */
export async function startConsole(options: ConsoleOptions): Promise<Console> {
  const pages = readPages(buildConsole(join(options.projectDir, 'apps/console')))
  const { apiUrl, publishableKey } = options
  pages.set('/config.json', {
    type: types['.json'] ?? '',
    body: Buffer.from(JSON.stringify({ apiUrl, publishableKey })),
    immutable: false,
  })
  const headers = securityHeaders(apiUrl)
  const server = createServer((request, response) => answer(request, response, { pages, headers }))
  await new Promise<void>((settle, refuse) => {
    server.once('error', refuse)
    server.listen(options.port, '127.0.0.1', settle)
  })
  const address = server.address()
  const port = typeof address === 'object' && address ? address.port : options.port
  return {
    url: `http://127.0.0.1:${port}`,
    stop: () =>
      new Promise((settle) => {
        server.close(() => settle())
        server.closeAllConnections()
      }),
  }
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { pages, headers }: { pages: Map<string, Page>; headers: Record<string, string> },
): void {
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD' }).end()
    return
  }
  const path = (request.url ?? '/').split('?')[0] ?? '/'
  // Addresses of views have no ending: they are the app, which reads them itself.
  const page = pages.get(path) ?? (extname(path) === '' ? pages.get('/index.html') : undefined)
  if (!page) {
    response.writeHead(404).end()
    return
  }
  response.writeHead(200, {
    'content-type': page.type,
    'content-length': page.body.length,
    'cache-control': page.immutable ? 'public, max-age=31536000, immutable' : 'no-cache',
  })
  response.end(request.method === 'HEAD' ? undefined : page.body)
}

/** The page may load its own files and talk to this one API, nothing else. */
function securityHeaders(apiUrl: string): Record<string, string> {
  const { origin } = new URL(apiUrl)
  const policy = [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    `connect-src 'self' ${origin} ${origin.replace(/^http/, 'ws')}`,
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ]
  return {
    'content-security-policy': policy.join('; '),
    'cross-origin-opener-policy': 'same-origin',
    'referrer-policy': 'no-referrer',
    'x-content-type-options': 'nosniff',
  }
}

/** All files of a build by their path in the URL: about 0.6 MB, read once. */
function readPages(directory: string): Map<string, Page> {
  return new Map(
    filesBelow(directory).map((file) => [
      `/${file}`,
      {
        type: types[extname(file)] ?? 'application/octet-stream',
        body: readFileSync(join(directory, file)),
        immutable: file.startsWith('assets/'),
      },
    ]),
  )
}

/** The directory with an up-to-date build. */
function buildConsole(consoleDir: string): string {
  const built = join(consoleDir, 'dist')
  if (lastChange(consoleDir) < timeOf(join(built, 'index.html'))) return built
  // Built aside and moved into place: another process may be reading the old one.
  const aside = join(consoleDir, 'node_modules')
  mkdirSync(aside, { recursive: true })
  const workshop = mkdtempSync(join(aside, '.build-'))
  try {
    runVite(consoleDir, join(workshop, 'new'))
    if (existsSync(built)) renameSync(built, join(workshop, 'old'))
    renameSync(join(workshop, 'new'), built)
  } finally {
    rmSync(workshop, { recursive: true, force: true })
  }
  return built
}

function runVite(consoleDir: string, outDir: string): void {
  const { resolve } = createRequire(join(consoleDir, 'package.json'))
  const vite = join(resolve('vite/package.json'), '../bin/vite.js')
  const args = [vite, 'build', '--outDir', outDir, '--emptyOutDir', '--logLevel', 'error']
  const { status, stderr } = spawnSync(process.execPath, args, {
    cwd: consoleDir,
    encoding: 'utf8',
    // vite takes NODE_ENV from outside; a test run must not make a test build.
    env: { ...process.env, NODE_ENV: 'production' },
  })
  if (status !== 0) throw new Error(`Cannot build the console: ${stderr.trim()}`)
}

/** When anything changed that a build is made of, ms since 1970. */
function lastChange(consoleDir: string): number {
  const sources = ['src', 'public', '../../packages/client/src']
  const files = [
    ...sources.flatMap((source) =>
      filesBelow(join(consoleDir, source)).map((file) => join(source, file)),
    ),
    'index.html',
    'package.json',
    'vite.config.ts',
  ]
  return Math.max(...files.map((file) => timeOf(join(consoleDir, file))))
}

function timeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

/** Relative paths of all files below a directory, with `/` between their parts. */
function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => statSync(join(directory, file)).isFile())
}
