/** A refusal in the server's own words. */
export class RealtimeError extends Error {
  /** Stable name, such as `Unauthorized`. */
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'RealtimeError'
    this.code = code
  }

  /** The text of a refused join: "Code: text". */
  get reason(): string {
    return `${this.code}: ${this.message}`
  }
}
