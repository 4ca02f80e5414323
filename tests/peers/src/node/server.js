// A web server with what a proxy has to carry: WebSockets that say back what they hear, events
// that come one by one, bodies that are counted, and answers that go wrong on request.
// Arguments: port.
'use strict'
const http = require('http')
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
  answer(request, response)
})
server.keepAliveTimeout = 60000
server.on('upgrade', (request, socket, head) => {
  if (request.url === '/refused') return socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno')
  if (request.url === '/other') return socket.end('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n')
  sockets.handleUpgrade(request, socket, head, client => {
    client.on('message', (data, binary) => client.send(data, { binary }))
    client.on('error', () => {})
  })
})
server.listen(Number(process.argv[2]), '127.0.0.1')
