// Reads one stream by each of the vendors' SDKs for Node and by the AI SDK; see node_sdks.py.
import Anthropic from "@anthropic-ai/sdk";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";
import OpenAI from "openai";

const [, , root, model] = process.argv;
const baseURL = `${root}/v1`;
const settings = { apiKey: "any", maxRetries: 0 };
const prompt = "one two three four five six";
const messages = [{ role: "user", content: prompt }];

function report(name, text, end) {
  console.log(JSON.stringify({ name, text, end }));
}

const openai = new OpenAI({ baseURL, ...settings });
{
  let [text, end] = ["", null];
  for await (const chunk of await openai.chat.completions.create({ model, messages, stream: true })) {
    text += chunk.choices[0]?.delta?.content ?? "";
    end = chunk.choices[0]?.finish_reason ?? end;
  }
  report("openai chat", text, end);
}
{
  let [text, end] = ["", null];
  for await (const event of await openai.responses.create({ model, input: prompt, stream: true })) {
    text += event.type === "response.output_text.delta" ? event.delta : "";
    end = event.type;
  }
  report("openai responses", text, end);
}
{
  const anthropic = new Anthropic({ baseURL: root, ...settings });
  const stream = anthropic.messages.stream({ model, max_tokens: 9, messages });
  const message = await stream.finalMessage();
  report("anthropic messages", message.content[0].text, message.stop_reason);
}
const providers = {
  "ai chat": createOpenAI({ baseURL, ...settings }).chat(model),
  "ai responses": createOpenAI({ baseURL, ...settings }).responses(model),
  "ai anthropic": createAnthropic({ baseURL, ...settings })(model),
  "ai compatible": createOpenAICompatible({ name: "gateway", baseURL, ...settings })(model),
};
for (const [name, provider] of Object.entries(providers)) {
  const answer = streamText({ model: provider, prompt, maxRetries: 0, maxOutputTokens: 20 });
  let text = "";
  for await (const piece of answer.textStream) text += piece;
  report(name, text, await answer.finishReason);
}
