/** The support inbox as rows: three agents and two tools, no code. */

const described = (value: string, description: string): object => ({ const: value, description })

/** Tools by name, in the shape of `set_tool`. */
export const tools = {
  save_draft: {
    description:
      'Keep a draft reply to the customer; a person sends it later. For delivery, complaint, invoice, cancellation and other mails.',
    effects: 'none',
    risk: 'low',
    input_schema: {
      type: 'object',
      additionalProperties: false,
      required: ['subject', 'reply'],
      properties: {
        subject: { type: 'string', description: 'Subject of the reply', maxLength: 200 },
        reply: {
          type: 'string',
          description: 'Polite reply in the language of the mail',
          minLength: 1,
          maxLength: 4000,
        },
      },
    },
  },
  send_refund: {
    description:
      'Refund money and send the confirmation reply. For refund, Erstattung, Rückzahlung, Geld zurück, money back.',
    effects: 'external',
    risk: 'high',
    reversible: 'no',
    input_schema: {
      type: 'object',
      additionalProperties: false,
      required: ['order_number', 'amount_eur', 'reply'],
      properties: {
        order_number: { type: 'string', description: 'Order number', minLength: 1, maxLength: 40 },
        amount_eur: { type: 'number', description: 'Amount to refund, EUR', minimum: 0 },
        reply: {
          type: 'string',
          description: 'Polite reply in the language of the mail',
          minLength: 1,
          maxLength: 4000,
        },
      },
    },
  },
} as const

const mailInput = {
  type: 'object',
  required: ['from', 'subject', 'text'],
  properties: {
    from: { type: 'string', maxLength: 600 },
    subject: { type: 'string', maxLength: 600 },
    text: { type: 'string', maxLength: 25000 },
  },
}

/** Agents by name, in the shape of `set_agent`. */
export const agents = {
  'mail-triage': {
    description: 'Sorts one mail with a cheap model',
    tier: 'cheap',
    instructions:
      'You sort the mail of a web shop. Read the mail and fill in the form. Judge by what the customer wants.',
    input_schema: mailInput,
    output_schema: {
      type: 'object',
      additionalProperties: false,
      required: ['category', 'language', 'summary'],
      properties: {
        category: {
          anyOf: [
            described(
              'refund',
              'customer wants money back: refund, Erstattung, Rückzahlung, Geld zurück, reimburse',
            ),
            described(
              'delivery',
              'where is my parcel: delivery, shipping, tracking, Lieferung, Paket, Versand, Sendung',
            ),
            described(
              'complaint',
              'broken or wrong part: broken, damaged, defekt, kaputt, gebrochen, Reklamation',
            ),
            described(
              'invoice',
              'needs an invoice: invoice, receipt, Rechnung, Rechnungskopie, Beleg',
            ),
            described(
              'cancellation',
              'cancel an order: cancel, cancellation, stornieren, Stornierung, Widerruf',
            ),
            described(
              'spam',
              'advertising: ranking, Google, SEO, first page, backlinks, offer, marketing, traffic',
            ),
            described('other', 'anything else: question, thanks, praise'),
          ],
        },
        language: { enum: ['de', 'en'], description: 'Language of the mail' },
        summary: { type: 'string', description: 'Summary in one sentence', maxLength: 400 },
      },
    },
  },
  'mail-reply': {
    description: 'Answers one sorted mail with a better model',
    tier: 'mid',
    tools: ['save_draft', 'send_refund'],
    instructions: [
      'You answer customers of a web shop. The mail and how it was sorted are given.',
      'Use send_refund once if the customer asks for money back and names order and amount; otherwise use save_draft once.',
      'For spam and for mails without text use no tool. Then say in one sentence what you did.',
    ].join(' '),
    input_schema: mailInput,
  },
  'support-inbox': {
    description: 'Sums up what happened to an inbox',
    tier: 'mid',
    instructions:
      'Say in at most three sentences what happened to the mails, for the head of support.',
  },
} as const
