import { ClientError, type Nightshift } from '@nightshift/client'
import type { SupabaseClient } from '@supabase/supabase-js'
import { createContext, use } from 'react'

/** The signed-in person and the way to their projects. */
export interface Connection {
  supabase: SupabaseClient
  nightshift: Nightshift
  userId: string
  email: string
}

export const ConnectionContext = createContext<Connection | null>(null)

/** The connection; only screens behind the sign-in may ask. */
export function useConnection(): Connection {
  const connection = use(ConnectionContext)
  if (!connection) throw new Error('Cannot use the connection before sign-in')
  return connection
}

/** What a call of supabase-js comes back with. */
interface Answer<Data> {
  data: Data | null
  error: { code: string; message: string; hint: string | null } | null
  status: number
}

/** The data of an answer, or its error thrown as ClientError. */
export function need<Data>({ data, error, status }: Answer<Data>): Data {
  if (error) {
    throw new ClientError({ code: error.code, message: error.message, hint: error.hint, status })
  }
  if (data === null)
    throw new ClientError({ code: '', message: 'Empty answer', hint: null, status })
  return data
}
