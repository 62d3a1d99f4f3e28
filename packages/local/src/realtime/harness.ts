import { createServer, type Server } from 'node:http'
import { createClient, type RealtimeChannel, type SupabaseClient } from '@supabase/supabase-js'
import { jwtVerify, SignJWT } from 'jose'
import postgres from 'postgres'
import { type Faults, noFaults } from '../faults.ts'
import { freePort } from '../postgres.ts'
import { freshDatabase } from '../testing.ts'
import type { ProtocolVersion } from './protocol.ts'
import { type Realtime, startRealtime } from './server.ts'

export const publishableKey = 'sb_publishable_test'
export const secretKey = 'sb_secret_test'
const jwtSecret = new TextEncoder().encode('a-secret-of-at-least-thirty-two-characters')

/** A Realtime server on a database of its own, with members of topics as the policies' subject. */
export interface Harness {
  url: string
  /** Login `supabase_admin`, the superuser. */
  adminUrl: string
  faults: Faults
  /** Login `postgres`, as a project's migrations have it. */
  sql: postgres.Sql
  /** Lets a user read or write a private topic from the next token on. */
  allow(user: string, topic: string, rights: { read?: boolean; write?: boolean }): Promise<void>
  client(options?: {
    token?: string
    version?: ProtocolVersion
    key?: string
  }): Promise<SupabaseClient>
  connections(): number
  /** Stops the server and starts another on the same port and database. */
  restart(): Promise<void>
  stop(): Promise<void>
}

/** A user's JWT; ends in an hour unless told otherwise. */
export function tokenFor(user: string, secondsToLive = 3600): Promise<string> {
  return new SignJWT({ role: 'authenticated' })
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(user)
    .setIssuedAt()
    .setJti(crypto.randomUUID())
    .setExpirationTime(Math.floor(Date.now() / 1000) + secondsToLive)
    .sign(jwtSecret)
}

export async function startHarness(): Promise<Harness> {
  const database = await freshDatabase({ template: 'supabase' })
  const sql = postgres(database.url, { max: 2, onnotice: () => {} })
  await createPolicies(sql)
  const faults = noFaults()
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const clients: SupabaseClient[] = []
  let running = await listen(port, database.adminUrl, faults)
  return {
    url,
    adminUrl: database.adminUrl,
    faults,
    sql,
    allow: async (user, topic, { read = false, write = false }) => {
      await sql`insert into members (user_id, topic, may_read, may_write)
        values (${user}, ${topic}, ${read}, ${write})
        on conflict (user_id, topic) do update set may_read = ${read}, may_write = ${write}`
    },
    client: async ({ token, version = '2.0.0', key = publishableKey } = {}) => {
      const client = createClient(url, key, {
        auth: { persistSession: false, autoRefreshToken: false },
        // The client prefers this to whatever setAuth() was told, also when it reconnects.
        ...(token ? { accessToken: async () => token } : {}),
        realtime: { vsn: version, reconnectAfterMs: () => 20 },
      })
      await client.realtime.setAuth()
      clients.push(client)
      return client
    },
    connections: () => running.realtime.connections(),
    restart: async () => {
      await running.stop()
      running = await listen(port, database.adminUrl, faults)
    },
    stop: async () => {
      await Promise.all(clients.map((client) => client.realtime.disconnect()))
      await running.stop()
      await sql.end()
      await database.drop()
    },
  }
}

/** Joins and waits for the verdict: `SUBSCRIBED`, or the reason of the refusal. */
export function join(channel: RealtimeChannel): Promise<string> {
  return new Promise((settle) => {
    channel.subscribe((status, cause) => settle(cause?.message ?? status))
  })
}

/** Collects what a channel receives, one entry per broadcast. */
export function collect(channel: RealtimeChannel): { event: string; payload: unknown }[] {
  const received: { event: string; payload: unknown }[] = []
  channel.on('broadcast', { event: '*' }, ({ event, payload }) => {
    received.push({ event, payload })
  })
  return received
}

async function createPolicies(sql: postgres.Sql): Promise<void> {
  await sql.unsafe(`
    create table members (
      user_id uuid, topic text, may_read boolean, may_write boolean, primary key (user_id, topic)
    );
    grant select on members to authenticated;
    create policy members_read on realtime.messages for select to authenticated using (exists (
      select from members m
      where m.topic = (select realtime.topic()) and m.user_id = (select auth.uid()) and m.may_read
    ));
    create policy members_write on realtime.messages for insert to authenticated with check (exists (
      select from members m
      where m.topic = (select realtime.topic()) and m.may_write
        and m.user_id::text = (select current_setting('request.jwt.claims')::jsonb ->> 'sub')
    ));`)
}

async function listen(
  port: number,
  adminUrl: string,
  faults: Faults,
): Promise<{ realtime: Realtime; stop(): Promise<void> }> {
  const realtime = await startRealtime({
    adminUrl,
    faults,
    verifyToken: async (token) =>
      jwtVerify(token, jwtSecret).then(
        ({ payload }) => payload,
        () => null,
      ),
    isKnownApiKey: (key) =>
      key === publishableKey ? 'anon' : key === secretKey ? 'service_role' : null,
  })
  const server = serveHttp(realtime)
  await new Promise<void>((settle) => server.listen(port, '127.0.0.1', settle))
  const stop = async (): Promise<void> => {
    const closed = new Promise((settle) => server.close(settle))
    await realtime.stop()
    server.closeAllConnections()
    await closed
  }
  return { realtime, stop }
}

function serveHttp(realtime: Realtime): Server {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const answer = await realtime.handle(
      new Request(`http://127.0.0.1${request.url}`, {
        method: request.method ?? 'GET',
        headers: Object.entries(request.headers).map(([name, value]) => [name, String(value)]),
        ...(request.method === 'POST' ? { body: Buffer.concat(chunks) } : {}),
      }),
    )
    response.writeHead(answer.status, Object.fromEntries(answer.headers))
    response.end(Buffer.from(await answer.arrayBuffer()))
  })
  server.on('upgrade', (request, socket, head) => realtime.upgrade(request, socket, head))
  return server
}
