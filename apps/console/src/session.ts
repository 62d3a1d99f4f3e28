import type { EmailOtpType, Session, SupabaseClient } from '@supabase/supabase-js'
import { useEffect, useState } from 'react'

interface SignedIn {
  /** Undefined until it is known. */
  session: Session | null | undefined
  /** Why a one-time link did not sign in. */
  linkProblem: unknown
}

/** Who is signed in, following sign-in and sign-out in every tab. */
export function useSession(supabase: SupabaseClient): SignedIn {
  const [session, setSession] = useState<Session | null>()
  const [linkProblem, setLinkProblem] = useState<unknown>(null)
  useEffect(() => {
    const { data } = supabase.auth.onAuthStateChange((_, current) => setSession(current))
    followLink(supabase).catch(setLinkProblem)
    return () => data.subscription.unsubscribe()
  }, [supabase])
  return { session, linkProblem }
}

/**
 * Signs in by a one-time link, `#token_hash=…&type=magiclink` (what `auth.admin.generateLink` calls
 * hashed_token). The fragment never leaves the browser and goes from the address bar at once.
 */
async function followLink(supabase: SupabaseClient): Promise<void> {
  const fragment = new URLSearchParams(location.hash.slice(1))
  const tokenHash = fragment.get('token_hash')
  if (!tokenHash) return
  history.replaceState(null, '', `${location.pathname}${location.search}`)
  const type: EmailOtpType = fragment.get('type') === 'recovery' ? 'recovery' : 'magiclink'
  const { error } = await supabase.auth.verifyOtp({ token_hash: tokenHash, type })
  if (error) throw error
}
