// StreamingLLM's order (arXiv 2309.17453) as a score, for methods that choose by one: the first `sinks` entries, then the
// newest. Budget: entries per KV head at the end of the prompt; what is decoded comes on top.
kvcache.method @recency info {family = "score", paper = "arXiv 2309.17453", title = "Recency"} {
  kvcache.param @sinks = 4 : index in [0, 1048576]
  kvcache.param @budget = 1024 : index
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv, %n = @sinks : index) on(prompt_end) {
    %i = kvcache.iota token of %kv : (!kv) -> !pT
    %p = kvcache.column pos of %kv : (!kv) -> !kvcache.tensor<head:Hkv, token:?, i32>
    %s = kvcache.map "select(i < n, inf, i)" (i = %i, n = %n, p = %p) : (!pT, index, !kvcache.tensor<head:Hkv, token:?, i32>) -> !s
    kvcache.next score = %s : !s
  }
}
