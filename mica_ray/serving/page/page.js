// The page's events. The conversation is in conversation.js, requests to the service in service.js.

import { Conversation } from './conversation.js'
import * as service from './service.js'
import { chart, distance, fillTable, formatted } from './state_chart.js'
import { TurnView, element } from './turn_view.js'

const CHOICES = 'mica.choices'
const byId = (id) => document.getElementById(id)
const conversation = Conversation.restored()
const views = new Map()
let names = []
let running = null
let mayEstimate = true

start()

async function start() {
  for (const turn of conversation.turns) showTurn(turn)
  drawState()
  byId('composer').addEventListener('submit', (event) => {
    event.preventDefault()
    sendMessage()
  })
  byId('message').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    sendMessage()
  })
  byId('message').addEventListener('input', fitMessage)
  byId('stop').addEventListener('click', () => running?.abort())
  byId('new').addEventListener('click', startOver)
  byId('key-open').addEventListener('click', askKey)
  byId('key-cancel').addEventListener('click', () => byId('key-dialog').close())
  byId('key-dialog').addEventListener('close', keepKey)
  byId('model').addEventListener('change', storeChoices)
  byId('compare').addEventListener('change', storeChoices)
  byId('message').focus()
  scrollToEnd()
  await findModels()
}

async function findModels() {
  try {
    names = await service.models()
  } catch (error) {
    showError(error)
    return
  }
  byId('status').textContent = names.length ? '' : 'No model is served yet.'
  byId('model').replaceChildren(...names.map((name) => element('option', { value: name }, name)))
  byId('models').hidden = names.length < 2
  const kept = JSON.parse(sessionStorage.getItem(CHOICES) ?? '{}')
  if (names.includes(kept.model)) byId('model').value = kept.model
  byId('compare').checked = Boolean(kept.compare) && names.length > 1
  storeChoices()
}

function storeChoices() {
  const compare = byId('compare').checked
  sessionStorage.setItem(CHOICES, JSON.stringify({ model: byId('model').value, compare }))
  document.body.classList.toggle('compares', compare)
}

async function sendMessage() {
  const said = byId('message').value.trim()
  if (!said || running) return
  if (!names.length) await findModels()
  if (!names.length) return
  byId('message').value = ''
  fitMessage()
  const replies = modelsToAsk().map((model) => ({ model, lead: '', text: '', status: 'streaming', error: '' }))
  const turn = { said, replies, taken: 0, choice: null }
  const before = conversation.turns.at(-1)
  conversation.turns.push(turn)
  showTurn(turn)
  if (before) views.get(before).draw()
  scrollToEnd()
  await requestReplies(turn, turn.replies)
}

/** The models that reply: one, or two in random order, so that a vote is blind. */
function modelsToAsk() {
  const first = byId('model').value
  if (!byId('compare').checked) return [first]
  const pair = [first, names.find((name) => name !== first)]
  return Math.random() < 0.5 ? pair : pair.reverse()
}

async function requestReplies(turn, replies) {
  running = new AbortController()
  showWaiting(true)
  conversation.keep()
  const kept = setInterval(() => conversation.keep(), 1000)
  await Promise.all(replies.map((reply) => streamReply(turn, reply, running.signal)))
  clearInterval(kept)
  running = null
  showWaiting(false)
  conversation.keep()
  drawState()
}

async function streamReply(turn, reply, signal) {
  const view = views.get(turn)
  const index = turn.replies.indexOf(reply)
  Object.assign(reply, { lead: '', text: '', status: 'streaming', error: '' })
  view.draw()
  try {
    for await (const piece of await replyPieces(turn, reply, signal)) {
      const isNear = isNearEnd()
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
      if (isNear) scrollToEnd()
    }
    const isMute = !reply.text && !reply.lead
    Object.assign(reply, isMute ? { status: 'failed', error: 'The model returned no text. Try again.' } : { status: 'done' })
  } catch (error) {
    const isStopped = error.name === 'AbortError'
    Object.assign(reply, { status: isStopped ? 'stopped' : 'failed', error: isStopped ? 'Stopped.' : error.message })
    if (error.code === 'session_not_found') conversation.session = null
    if (error.status === 401) askKey()
  }
  const isNear = isNearEnd()
  view.draw()
  if (isNear) scrollToEnd()
}

/** Requests the reply in the session if it has the whole conversation, otherwise without a session. */
async function replyPieces(turn, reply, signal) {
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

async function castVote(turn, choice) {
  Object.assign(turn, { choice, taken: choice === 'right' ? 1 : 0 })
  try {
    await service.vote(turn.replies[0].model, turn.replies[1].model, choice)
  } catch {
    turn.voteError = 'The service could not store the vote.'
  }
  conversation.keep()
  views.get(turn).draw()
  scrollToEnd()
  byId('message').focus()
}

function showTurn(turn) {
  const view = new TurnView(turn, {
    onChoice: castVote,
    onRetry: (again, reply) => running || requestReplies(again, [reply]),
    isLast: (other) => conversation.turns.at(-1) === other,
  })
  views.set(turn, view)
  byId('log').append(view.node)
  byId('welcome').hidden = true
}

function drawState() {
  const { session, path } = conversation
  byId('state').hidden = byId('kept').hidden = !session
  if (!session) return
  const keys = session.axes.map((axis) => axis.key)
  byId('chart').replaceChildren(chart(keys, path))
  byId('axes').textContent = session.axes.map((axis) => `${axis.key}: ${axis.name}`).join('; ')
  fillTable(byId('state-table'), keys, path)
  byId('kept').textContent = 'To estimate the state, the service stores this conversation for a while after its last message.'
  byId('distance').textContent = `distance ${formatted(distance(path.at(-1)))}`
}

function startOver() {
  running?.abort()
  if (conversation.session) service.closeSession(conversation.session.id)
  conversation.clear()
  views.clear()
  byId('log').replaceChildren()
  byId('welcome').hidden = false
  byId('status').textContent = ''
  drawState()
  byId('message').focus()
}

function askKey() {
  byId('key').value = service.key.get()
  byId('key-dialog').returnValue = ''
  if (!byId('key-dialog').open) byId('key-dialog').showModal()
}

async function keepKey() {
  if (byId('key-dialog').returnValue === 'keep') {
    service.key.set(byId('key').value.trim())
    await findModels()
  }
  byId('key').value = ''
  byId('message').focus()
}

function showWaiting(isWaiting) {
  byId('send').hidden = isWaiting
  byId('stop').hidden = !isWaiting
}

function showError(error) {
  byId('status').textContent = error.message
  if (error.status === 401) askKey()
}

function fitMessage() {
  const field = byId('message')
  field.style.height = 'auto'
  field.style.height = `${field.scrollHeight + 2}px`
}

function isNearEnd() {
  const talk = byId('talk')
  return talk.scrollHeight - talk.scrollTop - talk.clientHeight < 80
}

function scrollToEnd() {
  byId('talk').scrollTop = byId('talk').scrollHeight
}
