// Files uploaded by stock Uppy with its Tus plugin, under Node. One line of JSON in: endpoint, files [{name, type, path}],
// options of the plugin; one line of JSON out.
import { File } from 'node:buffer'
import { webcrypto } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import Uppy from '@uppy/core'
import Tus from '@uppy/tus'

// Browsers have these as globals, and so has Node since version 20; Debian 12 has 18.
globalThis.File ??= File
globalThis.crypto ??= webcrypto

const { endpoint, files, options } = JSON.parse(await text(process.stdin))
const uppy = new Uppy({ logger: { debug() {}, warn: console.error, error: console.error } })
uppy.use(Tus, { endpoint, ...options })
for (const { name, type, path } of files) {
  // tus-js-client for Node takes a Buffer where the one for browsers takes a File.
  uppy.addFile({ name, type, data: readFileSync(path), source: 'test' })
}
const { successful, failed } = await uppy.upload()
process.stdout.write(JSON.stringify({
  successful: successful.map(({ name, uploadURL }) => ({ name, url: uploadURL })),
  failed: failed.map(({ name, error }) => ({ name, error })),
}))
process.exit(0)
