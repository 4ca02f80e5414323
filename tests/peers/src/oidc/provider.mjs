// A provider of OpenID Connect whose users log in by naming themselves. What a test has it do
// wrong is said by POST /wrong with a name: the next token is then made so.
// Arguments: port, folder of the packages, redirect URIs (joined by commas).
import { createServer } from 'node:http'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [port, folder, redirects] = process.argv.slice(2)
const require = createRequire(`${folder}/`)
const load = name => import(pathToFileURL(require.resolve(name)))
const { Provider } = await load('oidc-provider')
const jose = await load('jose')

const issuer = `http://127.0.0.1:${port}`
const people = {
  ada: { name: 'Ada Lovelace', email: 'ada@example.org', email_verified: true, groups: ['ops', 'dev'] },
  bob: { email: 'bob@example.org', email_verified: true, groups: ['dev'] },
  eve: { email: 'ada@example.org', email_verified: false, groups: ['ops'] }
}

const newKey = () => ({
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }),
  use: 'sig',
  alg: 'RS256',
  kid: randomBytes(8).toString('hex')
})

const make = keys => {
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'comind',
      client_secret: 'a-secret-of-the-client-0123456789',
      redirect_uris: redirects.split(',')
    }],
    jwks: { keys },
    cookies: { keys: [randomBytes(16).toString('hex')] },
    // These come by the other way (userinfo), as this provider has it by default.
    claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'], profile: ['name'] },
    scopes: ['openid', 'email', 'groups', 'profile'],
    features: { devInteractions: { enabled: false } },
    pkce: { required: () => true },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    loadExistingGrant: async ctx => {
      const { client, session } = ctx.oidc
      const grant = new ctx.oidc.provider.Grant({ clientId: client.clientId, accountId: session.accountId })
      grant.addOIDCScope('openid email groups profile')
      await grant.save()
      return grant
    }
  })
  provider.on('server_error', (_, error) => console.error(error))
  return provider
}

let keys = [newKey()]
let provider = make(keys)
let wrong = ''
// All that must stand in no log.
const given = []

// The token as the provider made it, but for what is to be wrong with it.
const spoil = async token => {
  const claims = jose.decodeJwt(token)
  const header = jose.decodeProtectedHeader(token)
  let key = keys[0]
  if (wrong === 'nonce') claims.nonce = 'another'
  if (wrong === 'audience') claims.aud = 'another'
  if (wrong === 'issuer') claims.iss = 'http://127.0.0.1:1'
  if (wrong === 'expired') claims.exp = claims.iat - 3600
  if (wrong === 'signature') key = newKey()
  if (wrong === 'none') {
    const part = value => Buffer.from(JSON.stringify(value)).toString('base64url')
    return `${part({ alg: 'none' })}.${part(claims)}.`
  }
  if (wrong === 'secret') {
    const secret = Buffer.from(key.n)
    return new jose.SignJWT(claims).setProtectedHeader({ alg: 'HS256', kid: header.kid }).sign(secret)
  }
  return new jose.SignJWT(claims).setProtectedHeader(header).sign(await jose.importJWK(key, 'RS256'))
}

const read = async request => {
  let body = ''
  for await (const piece of request) body += piece
  return body
}

// Answers of /token are looked at, and spoiled where that is wanted.
const watch = response => {
  const end = response.end.bind(response)
  response.end = (chunk, ...rest) => {
    let answer = {}
    try { answer = JSON.parse(chunk) } catch {}
    for (const name of ['id_token', 'access_token']) if (answer[name]) given.push(answer[name])
    if (!wrong || !answer.id_token) return end(chunk, ...rest)
    spoil(answer.id_token).then(token => {
      wrong = ''
      const text = JSON.stringify({ ...answer, id_token: token })
      response.setHeader('content-length', Buffer.byteLength(text))
      end(text)
    })
    return response
  }
}

const own = {
  '/wrong': async request => { wrong = await read(request) },
  '/rotate': async () => { keys = [newKey()]; provider = make(keys) },
  '/given': async () => JSON.stringify(given)
}

createServer(async (request, response) => {
  const { pathname } = new URL(request.url, issuer)
  try {
    if (own[pathname]) return response.end(await own[pathname](request))
    if (pathname.startsWith('/interaction/')) {
      // Who it is stands in a header, in place of a form.
      const login = { accountId: request.headers['x-user'] || 'ada' }
      return await provider.interactionFinished(request, response, { login })
    }
    if (pathname === '/token') watch(response)
    provider.callback()(request, response)
  } catch (error) {
    console.error(error)
    response.statusCode = 500
    response.end(String(error))
  }
}).listen(Number(port), '127.0.0.1')
