import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { readSettings } from '@nightshift/shared/env.ts'
import { createClient, type SupabaseClient } from '@supabase/supabase-js'
import axe, { type AxeResults } from 'axe-core'
import { type Browser, chromium, type Locator, type Page } from 'playwright-core'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Console, startConsole } from '../../cli/src/console.ts'
import { prepareProject } from '../../cli/src/demo/run.ts'
import { freePortBase, portBlock } from '../../cli/src/ports.ts'
import { type LocalStack, startLocalStack } from '../../cli/src/stack.ts'

/** Where to leave pictures of every screen, for people. */
const shots = process.env.CONSOLE_SHOTS
let shot = 0

const projectDir = join(import.meta.dirname, '../../..')
const executablePath = '/usr/bin/chromium'
const hasChromium = existsSync(executablePath)
if (!hasChromium) console.warn(`Skipping the console in a browser: no "${executablePath}"`)

const flags =
  '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split(
    ' ',
  )
const phone = { width: 390, height: 844 }
const desk = { width: 1280, height: 800 }
const person = { email: 'anna@example.org', password: 'a long password' }
const refund = {
  from: 'Anna Becker <anna@example.org>',
  subject: 'Refund for order LB-20488',
  text: 'Hello,\n\nplease refund my order LB-20488. I want my money back: 89.90 EUR.\n\nAnna Becker',
}

let home: string
let stack: LocalStack
let served: Console
let browser: Browser
let page: Page
/** What must stay empty: errors on the browser's console, and requests to anyone else. */
const complaints: string[] = []

describe.skipIf(!hasChromium)('the console in a browser', { timeout: 60_000 }, () => {
  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), 'nightshift-console-'))
    const base = await freePortBase()
    stack = await startLocalStack(
      readSettings({ NIGHTSHIFT_HOME: home, NIGHTSHIFT_PORT_BASE: String(base) }),
      () => {},
    )
    served = await startConsole({
      port: portBlock(base).console,
      apiUrl: stack.urls.api,
      publishableKey: stack.keys.publishableKey,
      projectDir,
    })
    browser = await chromium.launch({ executablePath, args: flags })
    page = await openPage()
  })

  afterAll(async () => {
    await browser?.close()
    await served?.stop()
    await stack?.stop()
    rmSync(home, { recursive: true, force: true })
  })

  // The tests are one journey: where one breaks, the rest would only break after it.
  let broken = false
  beforeEach(({ skip, onTestFailed }) => {
    skip(broken, 'an earlier part of the journey failed')
    onTestFailed(() => {
      broken = true
    })
  })

  test('a person signs up, is told what is missing, and sees the prepared project', async () => {
    await page.goto(served.url)
    const toSignUp = page.getByRole('button', { name: 'New here? Create an account' })
    await toSignUp.waitFor()
    await noViolations()
    await toSignUp.click()
    await page.getByLabel('E-mail').fill(person.email)
    await page.getByLabel('Password').fill(person.password)
    await page.getByRole('button', { name: 'Create account' }).click()
    await page.getByText('You have no project yet').waitFor()
    await noViolations()
    await prepareProject(await signedIn(person.email))
    await page.reload()
    await page.getByText('All quiet. 0 tasks finished today, none needs you.').waitFor()
    await page.getByText('live', { exact: true }).waitFor()
    await noViolations()
  })

  test('input that does not fit is refused with reason and code, and is not lost', async () => {
    await page.getByRole('link', { name: 'Tasks' }).click()
    await page.getByRole('link', { name: 'New task' }).first().click()
    await page.getByLabel('Agent').selectOption('mail-reply')
    await noViolations()
    await page.getByLabel('Input (JSON)').fill('{"from": 7}')
    await page.getByRole('button', { name: 'Hand in' }).click()
    const alert = page.getByRole('alert')
    await alert.getByText('NS021').waitFor()
    expect(await alert.textContent()).toContain('mail-reply')
    await page.getByLabel('Input (JSON)').fill('{"from": ')
    await page.getByRole('button', { name: 'Hand in' }).click()
    await alert.getByText('The input is not JSON').waitFor()
    expect(await page.getByLabel('Input (JSON)').inputValue()).toBe('{"from": ')
  })

  test('a refund raises a card while the page is open; holding Approve lets the task end', async () => {
    await page.getByLabel('Input (JSON)').fill(JSON.stringify(refund))
    await page.getByRole('button', { name: 'Hand in' }).click()
    await page.getByRole('link', { name: 'This task waits for your decision' }).waitFor()
    await page.getByText('PRACTICE').last().waitFor()
    await noViolations()
    await page.getByRole('link', { name: /^Inbox/ }).click()
    await page.getByText('1 decision waits for you').waitFor()
    await noViolations()
    expect(await page.getByRole('button', { name: /pprove/ }).count()).toBe(0)
    await page.getByRole('link', { name: 'Open to decide' }).click()
    await page.reload()
    await detail().getByText('LB-20488', { exact: true }).waitFor()
    await noViolations()

    const hold = page.getByRole('button', { name: 'Hold to approve' })
    await hold.click()
    expect(await hold.getAttribute('data-holding')).toBeNull()
    await hold.focus()
    await page.keyboard.down('Enter')
    await page.getByText(/^Approved by you at/).waitFor()
    await page.keyboard.up('Enter')
    await page.getByRole('link', { name: /^Task #/ }).click()
    await detail().getByText('Completed', { exact: true }).waitFor()
    await page.getByText('Prompt · Output').first().click()
    await page.getByText('You answer customers of a web shop').first().waitFor()
    await noViolations()
  })

  test('who comes second is told who was first and when', async () => {
    const bert = (await addMember('bert@example.org', 'operator')).schema('nightshift')
    await handIn('LB-20501')
    await page.getByRole('link', { name: /^Inbox/ }).click()
    await page.getByRole('button', { name: 'Reject' }).click()
    const release = await holdBack('**/rest/v1/cards*')
    const [card] = must(await bert.from('cards').select('id,digest').eq('status', 'open'))
    must(await bert.rpc('decide', { card_id: card?.id, verb: 'approve', digest: card?.digest }))
    await page.getByLabel(/^Why/).fill('too late')
    await Promise.all([
      page.waitForResponse((response) => response.url().endsWith('/rpc/decide')),
      page.getByRole('button', { name: 'Reject now' }).click(),
    ])
    release()
    const answer = /^Already approved by member .+ at .+\. The first decision stands\.$/
    await page.getByText(answer).last().waitFor()
  })

  test('a rejection carries its note to the agent; on a desk list and card stand side by side', async () => {
    await page.setViewportSize(desk)
    await page.goto(`${served.url}/inbox`)
    await page.getByText('All quiet. 2 tasks finished today').waitFor()
    await handIn('LB-20777')
    await detail().getByText('LB-20777', { exact: true }).waitFor()
    expect(await page.getByRole('region', { name: 'Inbox' }).isVisible()).toBe(true)
    await noViolations()
    await detail().getByRole('button', { name: 'Reject' }).click()
    await page.keyboard.type('the saddle never came back')
    await page.getByRole('button', { name: 'Reject now' }).click()
    await page.getByText(/^Rejected by you at/).waitFor()
    await page.getByText('the saddle never came back').waitFor()
  })

  test('the log is shown and verifies', async () => {
    await page.getByRole('link', { name: 'Audit' }).click()
    await page.getByText('card.decided').first().waitFor()
    await page.getByRole('button', { name: 'Verify the log' }).click()
    await page.getByText('The log is intact').waitFor()
    await noViolations()
  })

  test('an outage is named, and over at the next try', async () => {
    await page.route('**/rest/v1/**', (route) => route.abort())
    await page.goto(`${served.url}/tasks`)
    await page.getByRole('alert').getByText('The API does not answer').waitFor()
    await page.unroute('**/rest/v1/**')
    await page.getByRole('button', { name: 'Try again' }).click()
    await page.getByRole('link', { name: /#2 mail-reply Completed/ }).waitFor()
  })

  test('a one-time link signs in; a German browser gets German', async () => {
    const german = await openPage('de-DE')
    const { data } = await service().auth.admin.generateLink({
      type: 'magiclink',
      email: person.email,
    })
    const token = data.properties?.hashed_token
    await german.goto(`${served.url}/audit#token_hash=${token}&type=magiclink`)
    await german.getByText('Die letzten 100 Ereignisse').waitFor()
    expect(await german.locator('html').getAttribute('lang')).toBe('de')
    expect(german.url()).toBe(`${served.url}/audit`)
    await german.getByRole('button', { name: 'Abmelden' }).click()
    await german.getByRole('button', { name: 'Anmelden' }).waitFor()
    await german.context().close()
  })

  test('nothing complained and nobody else was asked', () => {
    expect(complaints).toEqual([])
  })

  test('the first load stays below 200 kB', () => {
    const dist = join(projectDir, 'apps/console/dist')
    const files = [
      'index.html',
      ...readdirSync(join(dist, 'assets')).map((file) => `assets/${file}`),
    ]
    const sizes = files.map((file) => gzipSync(readFileSync(join(dist, file))).length)
    expect(sizes.reduce((sum, size) => sum + size)).toBeLessThan(200_000)
  })
})

/** A page in a context of its own whose complaints are collected. */
async function openPage(locale = 'en-US'): Promise<Page> {
  const context = await browser.newContext({ locale, viewport: phone, reducedMotion: 'reduce' })
  context.setDefaultTimeout(20_000)
  const opened = await context.newPage()
  opened.on('pageerror', (error) => complaints.push(error.message))
  opened.on('console', (message) => {
    // Chromium logs each refused request; the refusals that tests provoke are no complaint.
    const provoked = /status of (409|422)|ERR_FAILED/.test(message.text())
    if (['error', 'warning'].includes(message.type()) && !provoked) complaints.push(message.text())
  })
  const known = [served.url, stack.urls.api].map((url) => new URL(url).host)
  const meet = (url: string): void => {
    if (!known.includes(new URL(url).host)) complaints.push(`asked ${url}`)
  }
  opened.on('request', (request) => meet(request.url()))
  opened.on('websocket', (socket) => meet(socket.url()))
  return opened
}

/** The open screen, small and light, then large and dark: accessible, and never wider than the window. */
async function noViolations(): Promise<void> {
  const before = page.viewportSize() ?? phone
  for (const [size, colorScheme] of [
    [phone, 'light'],
    [desk, 'dark'],
  ] as const) {
    await page.setViewportSize(size)
    await page.emulateMedia({ colorScheme })
    const found = await violations()
    expect(found, `${page.url()} ${size.width} ${colorScheme}`).toEqual([])
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(
      size.width,
    )
    if (shots) await page.screenshot({ path: join(shots, `${shot++}-${size.width}.png`) })
  }
  await page.setViewportSize(before)
}

/** What axe finds, as `rule: element`. Evaluated by the debugger, which no content policy stops. */
async function violations(): Promise<string[]> {
  const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']
  await page.evaluate(`window.axe ?? (() => { ${axe.source} })()`)
  const found = await page.evaluate<AxeResults>(
    `axe.run({ runOnly: ${JSON.stringify(tags)}, resultTypes: ['violations'] })`,
  )
  return found.violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`))
}

/** The pane of the opened card or task. */
function detail(): Locator {
  return page.getByRole('region', { name: /^(Decision |Task #)\d+$/ })
}

/** Holds back answers of the API until released, as a slow network would. */
async function holdBack(pattern: string): Promise<() => void> {
  let open = (): void => {}
  const gate = new Promise<void>((settle) => {
    open = settle
  })
  await page.route(pattern, async (route) => {
    await gate
    await route.continue()
  })
  return () => open()
}

/** A client of our own beside the browser: with the secret key, or signed in as a person. */
function client(key: string): SupabaseClient {
  return createClient(stack.urls.api, key, { auth: { persistSession: false } })
}

const service = (): SupabaseClient => client(stack.keys.secretKey)

async function signedIn(email: string): Promise<SupabaseClient> {
  const supabase = client(stack.keys.publishableKey)
  const { error } = await supabase.auth.signInWithPassword({ email, password: person.password })
  if (error) throw error
  return supabase
}

/** Adds another member to the project and signs them in. */
async function addMember(email: string, role: string): Promise<SupabaseClient> {
  const { data, error } = await service().auth.admin.createUser({
    email,
    password: person.password,
    email_confirm: true,
  })
  if (error) throw error
  const project = await projectId()
  const set = { project, user_id: data.user.id, role }
  const { error: refused } = await service().schema('nightshift').rpc('set_member', set)
  if (refused) throw refused
  return signedIn(email)
}

async function projectId(): Promise<string> {
  const [project] = must(await service().schema('nightshift').from('projects').select('id'))
  return String(project?.id)
}

/** A mail that asks for money back, handed in by someone else. */
async function handIn(order: string): Promise<void> {
  const input = {
    ...refund,
    subject: `Refund for order ${order}`,
    text: refund.text.replace('LB-20488', order),
  }
  const task = { project: await projectId(), agent: 'mail-reply', input }
  must(
    await service()
      .schema('nightshift')
      .rpc('enqueue', { tasks: [task] }),
  )
}

function must<Data>(answer: { data: Data | null; error: Error | null }): Data {
  if (answer.error) throw answer.error
  if (answer.data === null) throw new Error('Empty answer')
  return answer.data
}
