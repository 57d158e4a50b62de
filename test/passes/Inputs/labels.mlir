!qw = !kvcache.tensor<head:Hkv, group:G, query.win:?, channel.post:D, act>
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!t = !kvcache.tensor<token:?, f32>
!all = !kvcache.index<token.keep:? of token>
!q = !kvcache.tensor<head:Hkv, group:G, query:?, channel.post:D, act>
!k = !kvcache.tensor<head:Hkv, query:?, channel.post:D, act>
!v = !kvcache.tensor<head:Hkv, query:?, channel.v:D, act>
!p = !kvcache.tensor<query:?, i32>
!o = !kvcache.tensor<head:Hkv, group:G, query:?, channel.v:D, act>
!r = !kvcache.tensor<query:?, f32>
!passed = !kvcache.index<query.keep:? of query>
!kv = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, x = f32}>
kvcache.method @a {
  kvcache.state @kv : !kv
}
kvcache.method @b {
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) {
    %s = kvcache.column x of %kv : (!kv) -> !s
    kvcache.next score = %s : !s
  }
}
kvcache.method @c {
  kvcache.state @kv : !kv
  kvcache.phase score (%q = last_queries(4) : !qw, %kv = @kv : !kv) {
    %p = kvcache.score.attention %q over %kv causal stats (sum(p, over(query.win, group))) : (!qw, !kv) -> !s
    %s = kvcache.reduce mean %p over [head] : (!s) -> !t
    kvcache.next score = %s : !t
  }
  kvcache.phase select (%s = score : !t, %B = budget : index) {
    %i = kvcache.select.topk %s budget %B : (!t, index) -> !all
    kvcache.next keep = %i : !all
  }
}
// Nothing leaves a cache, but later layers never see some rows, and attention in the prompt decides which.
kvcache.method @thins {
  kvcache.state @kv : !kv
  kvcache.phase prefill (%q = query : !q, %k = key : !k, %v = value : !v, %p = pos : !p, %kv = @kv : !kv, %B = rows : index) {
    %c = kvcache.append %kv, k = %k, v = %v, pos = %p : (!kv, !k, !v, !p) -> !kv
    %o, %sum = kvcache.attend %q over %c causal stats (sum(p, over(query, group))) : (!q, !kv) -> (!o, !s)
    %s = kvcache.reduce mean %sum over [head] : (!s) -> !t
    %r = kvcache.relabel %s : (!t) -> !r
    %i = kvcache.select.topk %r budget %B : (!r, index) -> !passed
    kvcache.next out = %o : !o, @kv = %c : !kv, rows = %i : !passed
  }
}
