!qw = !kvcache.tensor<head:Hkv, group:G, query.win:?, channel.post:D, act>
!s = !kvcache.tensor<head:Hkv, token:?, f32>
!t = !kvcache.tensor<token:?, f32>
!all = !kvcache.index<token.keep:? of token>
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
