// A web server with what a proxy has to carry: WebSockets that say back what they hear, events
// that come one by one, bodies that are counted, a file that can be had in parts, and answers that go
// wrong on request. Each answer names the machine that gave it (`x-pod`).
// Arguments: port.
'use strict'
const http = require('http')
const os = require('os')
const { WebSocketServer } = require('ws')

const sockets = new WebSocketServer({ noServer: true })
let aborted = 0

const answers = {
  '/events': (request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    let number = 0
    const timer = setInterval(() => response.write(`data: ${number++}\n\n`), 50)
    response.on('close', () => { clearInterval(timer); aborted++ })
  },
  // Bytes of the body, and what came with it.
  '/count': (request, response) => {
    let length = 0
    request.on('data', piece => { length += piece.length })
    request.on('aborted', () => { aborted++ })
    request.on('end', () => response.end(JSON.stringify({ length, headers: request.headers, trailers: request.trailers, url: request.url, method: request.method })))
  },
  // So many bytes, as fast as they are taken.
  '/bytes': (request, response) => {
    let left = Number(new URL(request.url, 'http://a').searchParams.get('n'))
    response.writeHead(200, { 'content-length': left })
    const piece = Buffer.alloc(65536, 'x')
    response.on('close', () => { if (left > 0) aborted++ })
    const more = () => {
      while (left > 0) {
        const next = Math.min(left, piece.length)
        left -= next
        if (!response.write(piece.subarray(0, next))) return response.once('drain', more)
      }
      response.end()
    }
    more()
  },
  // A file of `n` bytes: each line of 16 bytes is the number of its first one. In parts, too.
  '/file': (request, response) => {
    const size = Number(new URL(request.url, 'http://a').searchParams.get('n'))
    const asked = /^bytes=(\d+)-$/.exec(request.headers.range || '')
    let at = asked ? Number(asked[1]) : 0
    const head = { 'accept-ranges': 'bytes', 'content-length': size - at, etag: `"${size}"` }
    if (asked) head['content-range'] = `bytes ${at}-${size - 1}/${size}`
    response.writeHead(asked ? 206 : 200, head)
    const more = () => {
      while (at < size) {
        const lines = []
        for (let line = at - at % 16; lines.length < 4096 && line < size; line += 16) lines.push(String(line).padStart(16, '0'))
        const piece = Buffer.from(lines.join('')).subarray(at % 16).subarray(0, size - at)
        at += piece.length
        if (!response.write(piece)) return response.once('drain', more)
      }
      response.end()
    }
    more()
  },
  // Takes its time before it answers.
  '/think': (request, response) => {
    const limit = Number(new URL(request.url, 'http://a').searchParams.get('ms'))
    const timer = setTimeout(() => response.end('thought'), limit)
    response.on('close', () => clearTimeout(timer))
  },
  '/trailers': (request, response) => {
    response.writeHead(200, { trailer: 'x-sum' })
    response.write('body')
    response.addTrailers({ 'x-sum': '42' })
    response.end()
  },
  '/aborted': (request, response) => response.end(String(aborted)),
  // Never answers.
  '/silent': request => request.on('close', () => { aborted++ }),
  // Half an answer, then a reset.
  '/reset': (request, response) => {
    response.writeHead(200, { 'content-length': 1000 })
    response.write('half', () => request.socket.resetAndDestroy())
  },
  // Less than it says.
  '/short': (request, response) => {
    request.socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort')
  },
  '/nonsense': request => request.socket.end('this is no HTTP\r\n\r\n'),
  // One byte a while.
  '/slow': (request, response) => {
    response.writeHead(200, { 'content-length': 20 })
    let sent = 0
    const timer = setInterval(() => { response.write('x'); if (++sent === 20) { clearInterval(timer); response.end() } }, 25)
    response.on('close', () => clearInterval(timer))
  },
  // The first piece, then nothing.
  '/stuck': (request, response) => { response.writeHead(200, { 'content-length': 20 }); response.write('x') },
  '/close': (request, response) => { response.writeHead(200, { connection: 'close' }); response.end('bye') },
  '/early': (request, response) => { response.writeContinue(); response.end('late') },
  '/unavailable': (request, response) => { response.writeHead(503); response.end('busy') }
}

const server = http.createServer((request, response) => {
  const path = request.url.split('?')[0]
  const answer = answers[path] || answers['/count']
  response.setHeader('x-pod', os.hostname())
  answer(request, response)
})
server.keepAliveTimeout = 60000
sockets.on('headers', head => head.push(`x-pod: ${os.hostname()}`))
server.on('upgrade', (request, socket, head) => {
  if (request.url === '/refused') return socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno')
  if (request.url === '/other') return socket.end('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n')
  sockets.handleUpgrade(request, socket, head, client => {
    client.on('message', (data, binary) => client.send(data, { binary }))
    client.on('error', () => {})
  })
})
server.listen(Number(process.argv[2]), '127.0.0.1')
