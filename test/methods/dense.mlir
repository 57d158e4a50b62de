// RUN: cat %methods/prelude.mlir %methods/dense.mlir | %kvasir-opt --verify-roundtrip | FileCheck %s
// Nothing but the state: every phase is the default.
// CHECK-LABEL: kvcache.method @dense
// CHECK-NEXT: kvcache.state @kv
// CHECK-NEXT: }
