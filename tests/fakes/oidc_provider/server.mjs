// A certified OpenID provider with one machine client, one that may exchange tokens (RFC 8693), and people who log in
// at a console. Prints one JSON line once it serves: {"issuer": ...}. The first argument is the console's origin.
import { createServer } from "node:http";
import { createRemoteJWKSet, jwtVerify } from "jose";
import Provider, { errors } from "oidc-provider";

const server = createServer();
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const origin = process.argv[2] ?? "http://127.0.0.1:8090";

// Whoever logs in needs no password: the name is enough. Others than these belong to no group.
const groups = {
  ada: ["approvers"],
  bob: ["approvers"],
  olga: ["approvers", "search-owners"],
  otto: ["approvers", "operators"],
  vera: ["viewers"],
};

const exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
const accessToken = "urn:ietf:params:oauth:token-type:access_token";

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "search",
      client_secret: "test",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
    {
      client_id: "rank gate:1",
      client_secret: "s3cret+with/odd=%20characters",
      grant_types: [exchange],
      redirect_uris: [],
      response_types: [],
    },
    {
      client_id: "console",
      client_secret: "console-secret",
      grant_types: ["authorization_code"],
      redirect_uris: [`${origin}/login/callback`],
      post_logout_redirect_uris: [`${origin}/logged-out`],
    },
    {
      client_id: "rankgate-cli",
      token_endpoint_auth_method: "none",
      grant_types: ["urn:ietf:params:oauth:grant-type:device_code"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  scopes: ["openid", "rerank"],
  claims: {
    openid: ["sub"],
    email: ["email", "email_verified"],
    profile: ["preferred_username"],
    groups: ["groups"],
  },
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_context, resource) => ({
        audience: resource,
        scope: "rerank",
        accessTokenTTL: 300,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  findAccount: (_context, name) => ({ accountId: name, claims: () => ({ sub: name, ...about(name) }) }),
  extraTokenClaims: (context, token) => {
    if (context.oidc.params.grant_type === exchange) return undefined;
    if (!token.accountId) return { tenant: "acme", groups: ["search", "eu"] };
    const { AuthorizationCode, DeviceCode } = context.oidc.entities;
    return { ...about(token.accountId), auth_time: (AuthorizationCode ?? DeviceCode).authTime };
  },
  // Nobody is asked for consent: what a client asks for it gets.
  loadExistingGrant: async (context) => {
    const { client, session, params } = context.oidc;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope("openid email profile groups");
    for (const resource of [params.resource ?? []].flat()) grant.addResourceScope(resource, "rerank");
    await grant.save();
    return grant;
  },
  interactions: { url: (_context, interaction) => `/interaction/${interaction.uid}` },
  formats: {
    customizers: {
      // The token stays the caller's: `sub` of its own token, and the gate as who acts (section 4.1).
      jwt: (context, token, { payload }) =>
        Object.assign(payload, context.exchanged && { sub: context.exchanged, act: { sub: token.clientId } }),
    },
  },
});

const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));
provider.registerGrantType(
  exchange,
  async (context) => {
    const { client, params } = context.oidc;
    if (params.subject_token_type !== accessToken) throw new errors.InvalidRequest("subject_token_type");
    const { payload: subject } = await jwtVerify(params.subject_token, keys, { issuer }).catch(() => {
      throw new errors.InvalidGrant("subject_token");
    });
    context.exchanged = subject.sub;
    const token = new provider.ClientCredentials({ client, scope: "rerank" });
    token.resourceServer = new provider.ResourceServer(params.audience, {
      audience: params.audience,
      scope: "rerank",
      accessTokenTTL: 120,
      accessTokenFormat: "jwt",
      jwt: { sign: { alg: "RS256" } },
    });
    context.body = {
      access_token: await token.save(),
      issued_token_type: accessToken,
      token_type: token.tokenType,
      expires_in: token.expiration,
      scope: token.scope,
    };
  },
  ["audience", "scope", "subject_token", "subject_token_type", "requested_token_type"],
);

function about(name) {
  return {
    email: `${name}@acme.example`,
    email_verified: true,
    preferred_username: name,
    groups: groups[name] ?? [],
  };
}

async function interaction(request, response) {
  if (request.method !== "POST") {
    await provider.interactionDetails(request, response);
    response.setHeader("content-type", "text/html");
    response.end(`<!doctype html><title>Log in</title><form method="post">
<label>Name <input name="login" autofocus></label> <button>Log in</button></form>`);
    return;
  }
  let body = "";
  for await (const chunk of request) body += chunk;
  const accountId = new URLSearchParams(body).get("login");
  await provider.interactionFinished(request, response, { login: { accountId } });
}

const answer = provider.callback();
server.on("request", (request, response) => {
  if (!request.url.startsWith("/interaction/")) return answer(request, response);
  interaction(request, response).catch(() => {
    response.statusCode = 400;
    response.end();
  });
});
console.log(JSON.stringify({ issuer }));
