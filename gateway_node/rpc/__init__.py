"""RPC methods: the verbs for which the client protocol has no command. One file a noun, thin: parse, call one service
function, shape the answer. docs/chat.md lists them."""
