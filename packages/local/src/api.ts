import { createAccess } from './access.ts'
import { startAuth } from './auth/server.ts'
import type { ApiConfig } from './config.ts'
import { type Gateway, type GatewayOptions, startGateway } from './gateway.ts'
import type { Keys } from './keys.ts'
import { openCatalog } from './rest/catalog.ts'
import { startRpc } from './rest/rpc.ts'
import { startTables } from './rest/tables.ts'

export interface ApiOptions
  extends Pick<GatewayOptions, 'functions' | 'log' | 'port' | 'realtime'> {
  /** Connection string of the project's database for a login. */
  databaseUrl(user: string): string
  api: ApiConfig
  keys: Keys
}

/** Starts the Data API and Auth on one database, behind the gateway. */
export async function startApi(options: ApiOptions): Promise<Gateway> {
  const { api, keys, databaseUrl, log = () => {} } = options
  const url = databaseUrl('authenticator')
  const catalog = await openCatalog(url, api.schemas)
  const rpc = startRpc({ url, api, catalog })
  const tables = startTables({ url, adminUrl: databaseUrl('supabase_admin'), api, catalog })
  let apiUrl = ''
  const auth = startAuth({
    url: databaseUrl('supabase_auth_admin'),
    keys,
    apiUrl: () => apiUrl,
    log,
  })
  const stopServices = async (): Promise<void> => {
    await Promise.all([rpc.stop(), tables.stop(), auth.stop(), catalog.stop()])
  }
  try {
    const gateway = await startGateway({
      ...options,
      access: createAccess(keys),
      rpc,
      tables,
      auth,
    })
    apiUrl = gateway.url
    return {
      ...gateway,
      stop: async () => {
        await gateway.stop()
        await stopServices()
      },
    }
  } catch (cause) {
    await stopServices()
    throw cause
  }
}
