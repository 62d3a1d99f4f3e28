/** The part of Deno used here, for `tsc`; Deno itself checks against its own types. */
declare const Deno: { env: { toObject(): Record<string, string> } }
