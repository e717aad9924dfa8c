// `rerank` of ai with @ai-sdk/cohere, changed only in its base URL. Calls from stdin, one JSON line of outcome each.
import { createInterface } from "node:readline";
import { createCohere } from "@ai-sdk/cohere";
import { rerank } from "ai";

async function outcome({ url, token, query, documents }) {
  try {
    const cohere = createCohere({ baseURL: `${url}/v2`, apiKey: token });
    const { ranking } = await rerank({ model: cohere.reranking("rerank-v3.5"), query, documents });
    return { ranked: ranking.map(({ originalIndex, score }) => [originalIndex, score]) };
  } catch (error) {
    return {
      error: error.name,
      kinds: [error.constructor.name],
      status: error.statusCode ?? null,
      text: error.message,
      retried: error.name === "AI_RetryError",
    };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await outcome(JSON.parse(line))));
}
