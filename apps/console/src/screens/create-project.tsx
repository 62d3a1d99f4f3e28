import { useMutation, useQueryClient } from '@tanstack/react-query'
import { useState } from 'react'
import { need, useConnection } from '../connection.ts'
import { Button } from '../parts/button.tsx'
import { Field, fieldLook } from '../parts/field.tsx'
import { ProblemNote } from '../parts/problem-note.tsx'
import { words } from '../words/words.ts'

/** What a person without a project sees: why it is empty, and the one thing to do. */
export function CreateProject() {
  const { supabase } = useConnection()
  const queries = useQueryClient()
  const [name, setName] = useState('')
  const create = useMutation({
    mutationFn: async () =>
      need(await supabase.schema('nightshift').rpc('create_project', { name: name.trim() })),
    onSuccess: () => queries.invalidateQueries(),
  })
  return (
    <form
      className="mx-auto mt-[12dvh] grid max-w-sm gap-4 px-4"
      onSubmit={(event) => {
        event.preventDefault()
        create.mutate()
      }}
    >
      <p>{words.noProject}</p>
      <Field label={words.projectName}>
        {(ids) => (
          <input
            {...ids}
            required
            maxLength={120}
            value={name}
            onChange={(event) => setName(event.target.value)}
            className={fieldLook}
          />
        )}
      </Field>
      {create.isError && <ProblemNote what={words.failed.project} cause={create.error} />}
      <Button type="submit" look="primary" disabled={create.isPending || !name.trim()}>
        {words.createProject}
      </Button>
    </form>
  )
}
