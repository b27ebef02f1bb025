// One upload by stock tus-js-client, steered by tests: the first line on stdin says what to upload (clients.py: JsClient),
// each further line is a command; every event is one line of JSON on stdout.
import { createReadStream, readFileSync, statSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { PassThrough, Readable } from 'node:stream'
import * as tus from 'tus-js-client'

const SHOWN = ['Location', 'Upload-Offset', 'Upload-Length', 'Upload-Defer-Length', 'Upload-Concat', 'Upload-Metadata',
  'Content-Type', 'X-Request-ID', 'X-HTTP-Method-Override', 'X-Why']

const tell = (event, facts = {}) => process.stdout.write(`${JSON.stringify({ event, ...facts })}\n`)
const headers = (message) => Object.fromEntries(
  SHOWN.map((name) => [name.toLowerCase(), message.getHeader(name)]).filter(([, value]) => value !== undefined),
)

// A file whose body stops after `pauseAt` bytes, once: the request stays open in mid-body for as long as the test wants.
class PausingSource {
  constructor(path, pauseAt) {
    Object.assign(this, { path, pauseAt, size: statSync(path).size })
  }

  async slice(start, end) {
    const stop = Math.min(end, this.size)
    const pauses = this.pauseAt !== null && start <= this.pauseAt && this.pauseAt < stop
    const value = pauses ? Readable.from(this.upToPause(start)) : createReadStream(this.path, { start, end: stop - 1 })
    value.size = stop - start
    return { value, done: stop >= this.size }
  }

  async *upToPause(start) {
    const end = this.pauseAt - 1
    this.pauseAt = null
    yield* createReadStream(this.path, { start, end })
    tell('paused', { at: end + 1 })
    await new Promise(() => {})
  }

  close() {}
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const { file, kind, pauseAt, options } = JSON.parse((await lines.next()).value)
const input = {
  file: () => createReadStream(file),
  stream: () => createReadStream(file).pipe(new PassThrough()), // its length and name are not known to the client
  buffer: () => readFileSync(file),
}[kind]()

const upload = new tus.Upload(input, {
  retryDelays: null,
  ...(pauseAt && { fileReader: { openFile: async () => new PausingSource(file, pauseAt) } }),
  ...options,
  onBeforeRequest: (request) => tell('request', { method: request.getMethod(), url: request.getURL(), headers: headers(request) }),
  onAfterResponse: (request, response) => tell('response', {
    method: request.getMethod(), url: request.getURL(), status: response.getStatus(), headers: headers(response), body: response.getBody(),
  }),
  onUploadUrlAvailable: () => tell('url', { url: upload.url }),
  onSuccess: () => {
    tell('success', { url: upload.url })
    process.exit(0)
  },
  onError: (error) => {
    tell('error', { message: String(error), status: error.originalResponse?.getStatus() ?? null })
    process.exit(0)
  },
})
upload.start()

for await (const command of lines) {
  if (command === 'start') {
    upload.start()
  } else {
    await upload.abort(command === 'terminate')
    tell('aborted')
  }
}
