/** What the Supabase edge runtime adds to Deno, as far as we use it. */
declare const EdgeRuntime: { waitUntil(promise: Promise<unknown>): void }
