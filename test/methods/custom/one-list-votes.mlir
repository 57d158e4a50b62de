// RUN: %kvasir verify %s --require-fused | FileCheck %s
// RUN: echo "In the beginning God created the heaven and the earth. And the earth was without form, and void" > prompt.txt
// RUN: %kvasir run %s --prompt prompt.txt --budget 0.5 --max-new-tokens 8 --require-fused --verify
// REQUIRES: kvasir
// One list for all heads, ranked by what its heads attend to at most; what stays is coded for groups of two heads, keys after
// the first entries, values a block at a time.
// CHECK: {{[0-9]+}} cases of {{.*}} agree with the reference
!rows = !kvcache.cache<append, token:?, {
  k [head:Hkv, channel.post:D] = sinks<recent<affine<8, tile(head:2, channel:16), zp_i16, scale_f16, lsb(channel)>, keep(8), block(1)>, 4>,
  v [head:Hkv, channel.v:D] = recent<affine<4, tile(token:16), min_f16, scale_f16, lsb(token)>, keep(0), block(16)>,
  pos = i32}>
!st = !kvcache.tensor<token:?, f32>
!all = !kvcache.index<token.keep:? of token>
kvcache.method @one_list_votes info {family = "score", paper = "", title = "one-list-votes"} {
  kvcache.param @window = 16 : index in [1, 4096]
  kvcache.param @budget = 128 : index
  kvcache.state @kv : !rows
  kvcache.phase score (%q = last_queries(window) : !qw, %kv = @kv : !rows) on(prompt_end) {
    %p = kvcache.score.reduce sum "sqrt(p)" of %q over %kv causal along [query.win, group] : (!qw, !rows) -> !s
    %s = kvcache.reduce max %p over [head] : (!s) -> !st
    kvcache.next score = %s : !st
  }
  kvcache.phase select (%s = score : !st, %B = budget : index, %n = @window : index) {
    %keep = kvcache.select.topk %s budget %B last %n : (!st, index, index) -> !all
    kvcache.next keep = %keep : !all
  }
}
