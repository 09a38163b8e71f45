// The page: what is pressed and what follows. What was said is in conversation.js, the network in service.js.

import { Conversation } from './conversation.js'
import * as service from './service.js'
import { chart, distance, fillTable, shown } from './state_chart.js'
import { TurnView, element } from './turn_view.js'

const CHOICES = 'mica.choices'
const at = (id) => document.getElementById(id)
const conversation = Conversation.restored()
const views = new Map()
let names = []
let running = null
let mayEstimate = true

start()

async function start() {
  for (const turn of conversation.turns) show(turn)
  drawState()
  at('composer').addEventListener('submit', (event) => {
    event.preventDefault()
    say()
  })
  at('message').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    say()
  })
  at('message').addEventListener('input', fitMessage)
  at('stop').addEventListener('click', () => running?.abort())
  at('new').addEventListener('click', startAnew)
  at('key-open').addEventListener('click', askKey)
  at('key-cancel').addEventListener('click', () => at('key-dialog').close())
  at('key-dialog').addEventListener('close', keepKey)
  at('model').addEventListener('change', keepChoices)
  at('compare').addEventListener('change', keepChoices)
  at('message').focus()
  toEnd()
  await findModels()
}

async function findModels() {
  try {
    names = await service.models()
  } catch (error) {
    tell(error)
    return
  }
  at('status').textContent = names.length ? '' : 'No model is served yet.'
  at('model').replaceChildren(...names.map((name) => element('option', { value: name }, name)))
  at('models').hidden = names.length < 2
  const kept = JSON.parse(sessionStorage.getItem(CHOICES) ?? '{}')
  if (names.includes(kept.model)) at('model').value = kept.model
  at('compare').checked = Boolean(kept.compare) && names.length > 1
  keepChoices()
}

function keepChoices() {
  const compare = at('compare').checked
  sessionStorage.setItem(CHOICES, JSON.stringify({ model: at('model').value, compare }))
  document.body.classList.toggle('compares', compare)
}

async function say() {
  const said = at('message').value.trim()
  if (!said || running) return
  if (!names.length) await findModels()
  if (!names.length) return
  at('message').value = ''
  fitMessage()
  const replies = asked().map((model) => ({ model, lead: '', text: '', status: 'streaming', error: '' }))
  const turn = { said, replies, taken: 0, choice: null }
  const before = conversation.turns.at(-1)
  conversation.turns.push(turn)
  show(turn)
  if (before) views.get(before).draw()
  toEnd()
  await answer(turn, turn.replies)
}

/** The models to ask: one, or two whose sides are drawn by lot, so that a vote is blind. */
function asked() {
  const first = at('model').value
  if (!at('compare').checked) return [first]
  const pair = [first, names.find((name) => name !== first)]
  return Math.random() < 0.5 ? pair : pair.reverse()
}

async function answer(turn, replies) {
  running = new AbortController()
  waiting(true)
  conversation.keep()
  const kept = setInterval(() => conversation.keep(), 1000)
  await Promise.all(replies.map((reply) => follow(turn, reply, running.signal)))
  clearInterval(kept)
  running = null
  waiting(false)
  conversation.keep()
  drawState()
}

async function follow(turn, reply, signal) {
  const view = views.get(turn)
  const index = turn.replies.indexOf(reply)
  Object.assign(reply, { lead: '', text: '', status: 'streaming', error: '' })
  view.draw()
  try {
    for await (const piece of await pieces(turn, reply, signal)) {
      const isNear = nearEnd()
      if ('state' in piece) {
        turn.state = piece.state
      } else if (piece.lead) {
        reply.lead = piece.lead
        view.draw()
      } else {
        const text = reply.text ? piece.text : piece.text.trimStart()
        reply.text += text
        view.add(index, text)
      }
      if (isNear) toEnd()
    }
    const isMute = !reply.text && !reply.lead
    Object.assign(reply, isMute ? { status: 'failed', error: 'The model said nothing.' } : { status: 'done' })
  } catch (error) {
    const isStopped = error.name === 'AbortError'
    Object.assign(reply, { status: isStopped ? 'stopped' : 'failed', error: isStopped ? 'Stopped.' : error.message })
    if (error.code === 'session_not_found') conversation.session = null
    if (error.status === 401) askKey()
  }
  const isNear = nearEnd()
  view.draw()
  if (isNear) toEnd()
}

/** Ask within a session that estimates the state, where the service has such and it knows the whole talk. */
async function pieces(turn, reply, signal) {
  const isAlone = turn.replies.length === 1
  if (isAlone && mayEstimate && !conversation.session && conversation.turns.length === 1) {
    conversation.session = await service.openSession(reply.model)
    mayEstimate = conversation.session !== null
    drawState()
  }
  const { session } = conversation
  return isAlone && session?.model === reply.model && conversation.isInSession
    ? service.replyIn(session, turn.said, signal)
    : service.reply(reply.model, conversation.messages(turn), signal)
}

async function choose(turn, choice) {
  Object.assign(turn, { choice, taken: choice === 'right' ? 1 : 0 })
  try {
    await service.vote(turn.replies[0].model, turn.replies[1].model, choice)
  } catch {
    turn.voteError = 'The vote could not be kept by the service.'
  }
  conversation.keep()
  views.get(turn).draw()
  toEnd()
  at('message').focus()
}

function show(turn) {
  const view = new TurnView(turn, {
    onChoice: choose,
    onRetry: (again, reply) => running || answer(again, [reply]),
    isLast: (other) => conversation.turns.at(-1) === other,
  })
  views.set(turn, view)
  at('log').append(view.node)
  at('welcome').hidden = true
}

function drawState() {
  const { session, path } = conversation
  at('state').hidden = at('kept').hidden = !session
  if (!session) return
  const keys = session.axes.map((axis) => axis.key)
  at('chart').replaceChildren(chart(keys, path))
  at('axes').textContent = session.axes.map((axis) => `${axis.key}: ${axis.name}`).join('; ')
  fillTable(at('state-table'), keys, path)
  at('kept').textContent = 'To estimate the state, the service keeps this conversation for a while after its last message.'
  at('distance').textContent = `distance ${shown(distance(path.at(-1)))}`
}

function startAnew() {
  running?.abort()
  if (conversation.session) service.closeSession(conversation.session.id)
  conversation.clear()
  views.clear()
  at('log').replaceChildren()
  at('welcome').hidden = false
  at('status').textContent = ''
  drawState()
  at('message').focus()
}

function askKey() {
  at('key').value = service.key.get()
  at('key-dialog').returnValue = ''
  if (!at('key-dialog').open) at('key-dialog').showModal()
}

async function keepKey() {
  if (at('key-dialog').returnValue === 'keep') {
    service.key.set(at('key').value.trim())
    await findModels()
  }
  at('key').value = ''
  at('message').focus()
}

function waiting(isWaiting) {
  at('send').hidden = isWaiting
  at('stop').hidden = !isWaiting
}

function tell(error) {
  at('status').textContent = error.message
  if (error.status === 401) askKey()
}

function fitMessage() {
  const field = at('message')
  field.style.height = 'auto'
  field.style.height = `${field.scrollHeight + 2}px`
}

function nearEnd() {
  const talk = at('talk')
  return talk.scrollHeight - talk.scrollTop - talk.clientHeight < 80
}

function toEnd() {
  at('talk').scrollTop = at('talk').scrollHeight
}
