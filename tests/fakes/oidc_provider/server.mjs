// A certified OpenID provider with one machine client, and one that may exchange tokens (RFC 8693).
// Prints one JSON line once it serves: {"issuer": ...}.
import { createServer } from "node:http";
import { createRemoteJWKSet, jwtVerify } from "jose";
import Provider, { errors } from "oidc-provider";

const server = createServer();
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

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
  ],
  scopes: ["rerank"],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
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
  extraTokenClaims: ({ oidc }) =>
    oidc.params.grant_type === exchange ? undefined : { tenant: "acme", groups: ["search", "eu"] },
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

server.on("request", provider.callback());
console.log(JSON.stringify({ issuer }));
