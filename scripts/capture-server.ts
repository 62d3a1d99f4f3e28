import { createServer, type IncomingMessage } from 'node:http'
import { buffer } from 'node:stream/consumers'

// A small stand-in for Supabase's Management API: keeps what `supabase functions deploy --use-api`
// uploads. Named as the CLI's proxy as well, it notices every attempt to reach another host.

/** One uploaded function. */
export interface Deployment {
  metadata: Metadata
  /** Content by path relative to the project directory. */
  files: ReadonlyMap<string, Uint8Array>
}

/** The part "metadata" of an upload (CLI 3.1); both paths are keys of `files`. */
export interface Metadata {
  entrypoint_path: string
  import_map_path: string
  name: string
  static_patterns: string[]
  verify_jwt: boolean
}

export interface CaptureServer {
  /** For `api_url` of a CLI profile and for `HTTPS_PROXY`. */
  url: string
  /** What was uploaded, by slug. */
  deployments: ReadonlyMap<string, Deployment>
  /** Addresses asked for through the proxy; none was reached. */
  outside: readonly string[]
  stop(): Promise<void>
}

/** Listens on a free port of 127.0.0.1. */
export async function startCaptureServer(): Promise<CaptureServer> {
  const deployments = new Map<string, Deployment>()
  const outside: string[] = []
  const server = createServer(async (request, response) => {
    const target = request.url ?? ''
    if (!target.startsWith('/')) outside.push(target)
    const slug = deployedSlug(request)
    if (slug) deployments.set(slug, await readUpload(request))
    response.writeHead(slug ? 201 : 200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(slug ? deployed(slug) : {}))
  })
  server.on('connect', (request, socket) => {
    outside.push(request.url ?? '')
    socket.destroy()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : null
  return {
    url: `http://127.0.0.1:${port}`,
    deployments,
    outside,
    stop: async () => {
      server.closeAllConnections()
      await server[Symbol.asyncDispose]()
    },
  }
}

/** The slug of `POST /v1/projects/<ref>/functions/deploy?slug=<slug>`, null for any other request. */
function deployedSlug({ method, url }: IncomingMessage): string | null {
  const { pathname, searchParams } = new URL(url ?? '', 'http://127.0.0.1')
  const deploys = method === 'POST' && /^\/v1\/projects\/\w+\/functions\/deploy$/.test(pathname)
  return deploys ? searchParams.get('slug') : null
}

/** The upload is multipart: one part "metadata" (JSON), one part "file" a source, named by its path. */
async function readUpload(request: IncomingMessage): Promise<Deployment> {
  const headers = { 'content-type': request.headers['content-type'] ?? '' }
  const form = await new Response(await buffer(request), { headers }).formData()
  const metadata: Metadata = JSON.parse(String(form.get('metadata')))
  const files = new Map<string, Uint8Array>()
  for (const part of form.getAll('file')) {
    if (typeof part !== 'string') files.set(part.name, await part.bytes())
  }
  return { metadata, files }
}

/** As much of the API's answer as satisfies the CLI. */
function deployed(slug: string) {
  return { id: slug, slug, name: slug, status: 'ACTIVE', version: 1 }
}
