import { nightshift } from '@nightshift/client'
import { createClient, type SupabaseClient } from '@supabase/supabase-js'
import { QueryCache, QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { Suspense, use, useMemo, useState } from 'react'
import { readConfig } from './config.ts'
import { ConnectionContext } from './connection.ts'
import { Boundary } from './parts/boundary.tsx'
import { Notices } from './parts/notice.tsx'
import { problemOf } from './problem.ts'
import { SignIn } from './screens/sign-in.tsx'
import { useSession } from './session.ts'
import { Shell } from './shell.tsx'
import { words } from './words/words.ts'

/** Made once, outside of React, which may render a component more often than it keeps it. */
const client = readConfig().then(({ apiUrl, publishableKey }) =>
  // Retries belong to the queries below; two layers of them would hide an outage for 10 s.
  createClient(apiUrl, publishableKey, { db: { retry: false } }),
)

/** The whole console. */
export function App() {
  return (
    <Boundary what={words.failed.start}>
      <Suspense>
        <Start client={client} />
      </Suspense>
    </Boundary>
  )
}

function Start({ client }: { client: Promise<SupabaseClient> }) {
  const supabase = use(client)
  const { session, linkProblem } = useSession(supabase)
  if (session === undefined) return null
  if (session === null) return <SignIn supabase={supabase} linkProblem={linkProblem} />
  const { id, email = '' } = session.user
  return <Inside key={id} supabase={supabase} userId={id} email={email} />
}

interface InsideProps {
  supabase: SupabaseClient
  userId: string
  email: string
}

/** Keyed by person: what one was shown is never there for the next. */
function Inside({ supabase, userId, email }: InsideProps) {
  const [queries] = useState(() => createQueries(supabase))
  const connection = useMemo(
    () => ({ supabase, nightshift: nightshift(supabase), userId, email }),
    [supabase, userId, email],
  )
  return (
    <QueryClientProvider client={queries}>
      <ConnectionContext value={connection}>
        <Notices>
          <Shell />
        </Notices>
      </ConnectionContext>
    </QueryClientProvider>
  )
}

/** How often to look whether the API is back, ms. */
const comeBackMs = 3_000

const isUnreachable = (cause: unknown): boolean => problemOf(cause).code === 'unreachable'

function createQueries(supabase: SupabaseClient): QueryClient {
  return new QueryClient({
    queryCache: new QueryCache({
      onError: (cause) => {
        // A session the API no longer knows (another database, a rotated key) cannot be refreshed.
        if (problemOf(cause).status === 401) void supabase.auth.signOut({ scope: 'local' })
      },
    }),
    defaultOptions: {
      queries: {
        // A refusal stays a refusal; what nobody answered is tried again, first at once, then on and on.
        retry: (failures, cause) => failures < 1 && isUnreachable(cause),
        retryDelay: 300,
        refetchInterval: ({ state }) => (isUnreachable(state.error) ? comeBackMs : false),
      },
    },
  })
}
