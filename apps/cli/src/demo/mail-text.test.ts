import { expect, test } from 'vitest'
import { cleanText, maxTextLength } from './mail-text.ts'

test('an answer written between the quotes stays, the quotes and their head go', () => {
  const body = [
    'Hello,',
    '',
    'On Mon, 16 Nov 2026 at 09:00, Lindenhof <service@example.com> wrote:',
    '> Which size?',
    'Size 56.',
    '>> Which colour?',
    'Green.',
  ].join('\r\n')
  expect(cleanText(body)).toEqual({
    text: 'Hello,\n\nSize 56.\nGreen.',
    trimmed: ['quoted history: 3 lines'],
  })
})

test('a head wrapped before the address is one head', () => {
  const body =
    'Ja.\n\nAm 16. November 2026 um 09:00 schrieb Lindenhof Bikes\n<service@example.com>:\n\n> Passt das?\n'
  expect(cleanText(body).text).toBe('Ja.')
})

test('history without ">" goes from the head that names an address, or a separator, on', () => {
  const head = 'Yes.\n\nOn Mon, 16 Nov 2026, Shop <service@example.com> wrote:\n\nDoes it fit?'
  expect(cleanText(head)).toEqual({ text: 'Yes.', trimmed: ['quoted history: 3 lines'] })
  const separator = 'Ja.\n\n-----Ursprüngliche Nachricht-----\nVon: Shop\n\nPasst es?'
  expect(cleanText(separator)).toEqual({ text: 'Ja.', trimmed: ['quoted history: 4 lines'] })
})

test.each([
  'Am 3. November schrieb mir Ihre Kollegin:\nSie kommen am Dienstag. Stimmt das?',
  'On the 3rd you wrote:\nwe will call. Nobody did.',
  'On Monday the 3rd I asked.\nThen nobody wrote:\nwhy?',
  'Ich möchte:\n--\n2 Schläuche',
  'a > b, and ---- is no separator',
])('prose that only resembles history or a signature stays: %j', (body) => {
  expect(cleanText(body)).toEqual({ text: body, trimmed: [] })
})

test('the sentence before a wrapped "you wrote:" is not taken for its head', () => {
  expect(cleanText('On Monday the 3rd I asked.\nOn the 4th you wrote:\n> Soon.').text).toBe(
    'On Monday the 3rd I asked.',
  )
})

test('the signature goes, a signature inside a quote does not hide the answer below', () => {
  expect(cleanText('> Hi\n> -- \n> Shop\n\nThanks!\n-- \nTom\nphone')).toEqual({
    text: 'Thanks!',
    trimmed: ['quoted history: 3 lines', 'signature: 3 lines'],
  })
})

test('NUL and lone surrogates become U+FFFD, real characters stay', () => {
  expect(cleanText('a\0b\uD800c\uDC00d🚲').text).toBe('a\uFFFDb\uFFFDc\uFFFDd🚲')
})

test('a long text is cut with a mark and never inside a character', () => {
  const whole = 'ä'.repeat(maxTextLength)
  expect(cleanText(whole)).toEqual({ text: whole, trimmed: [] })
  const { text, trimmed } = cleanText(`x${'🚲'.repeat(maxTextLength / 2)}y`)
  expect(text).toBe(`x${'🚲'.repeat(maxTextLength / 2 - 1)}\n[… 3 more characters cut]`)
  expect(trimmed).toEqual(['end of a long text: 3 characters'])
})

test('many heads without a quote do not take quadratic time', () => {
  const started = performance.now()
  cleanText('On 1 wrote:\n'.repeat(200_000))
  expect(performance.now() - started).toBeLessThan(5_000)
})
