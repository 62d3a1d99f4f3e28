import type { SupabaseClient } from '@supabase/supabase-js'
import { type FormEvent, useState } from 'react'
import { Button } from '../parts/button.tsx'
import { Field, fieldLook } from '../parts/field.tsx'
import { ProblemNote } from '../parts/problem-note.tsx'
import { words } from '../words/words.ts'

type Mode = 'signIn' | 'signUp'

interface SignInProps {
  supabase: SupabaseClient
  linkProblem: unknown
}

/** Sign in, or create an account, with e-mail and password. */
export function SignIn({ supabase, linkProblem }: SignInProps) {
  const [mode, setMode] = useState<Mode>('signIn')
  const [busy, setBusy] = useState(false)
  const [problem, setProblem] = useState(linkProblem)
  const [mailTo, setMailTo] = useState('')

  const submit = async (event: FormEvent<HTMLFormElement>): Promise<void> => {
    event.preventDefault()
    const form = new FormData(event.currentTarget)
    const person = { email: String(form.get('email')), password: String(form.get('password')) }
    setBusy(true)
    setProblem(null)
    const { data, error } =
      mode === 'signIn'
        ? await supabase.auth.signInWithPassword(person)
        : await supabase.auth.signUp(person)
    setBusy(false)
    setProblem(error)
    // Where addresses are confirmed by mail, an account alone is no session yet.
    if (!error && !data.session) setMailTo(person.email)
  }

  return (
    <main className="grid min-h-dvh grid-rows-[auto_1fr] lg:grid-cols-2 lg:grid-rows-1">
      <div className="night flex flex-col justify-end px-6 pt-16 pb-8 lg:p-14">
        <img src="/moon.svg" alt="" className="mb-6 size-14 lg:size-20" />
        <p className="opacity-80">Nightshift</p>
        <h1 className="max-w-md text-3xl font-semibold tracking-tight text-balance lg:text-4xl">
          {words.signInTitle}
        </h1>
        <p className="mt-3 max-w-md opacity-80">{words.signInLead}</p>
      </div>
      <form
        onSubmit={submit}
        className="mx-auto grid w-full max-w-sm content-center gap-4 self-start p-6 lg:self-center"
      >
        <Field label={words.email}>
          {(ids) => (
            <input
              {...ids}
              name="email"
              type="email"
              autoComplete="username"
              required
              className={fieldLook}
            />
          )}
        </Field>
        <Field label={words.password} hint={mode === 'signUp' ? words.passwordRule : undefined}>
          {(ids) => (
            <input
              {...ids}
              name="password"
              type="password"
              autoComplete={mode === 'signIn' ? 'current-password' : 'new-password'}
              minLength={mode === 'signUp' ? 8 : undefined}
              required
              className={fieldLook}
            />
          )}
        </Field>
        {problem !== null && <ProblemNote what={words.failed[mode]} cause={problem} />}
        {mailTo && <p role="status">{words.confirmMail(mailTo)}</p>}
        <Button type="submit" look="primary" disabled={busy}>
          {words[mode]}
        </Button>
        <Button look="plain" onClick={() => setMode(mode === 'signIn' ? 'signUp' : 'signIn')}>
          {mode === 'signIn' ? words.toSignUp : words.toSignIn}
        </Button>
      </form>
    </main>
  )
}
