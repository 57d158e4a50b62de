// RUN: %kvasir-opt %s --verify-roundtrip | FileCheck %s
// A program that changes nothing ends with a `next` of no values; its text is read again like any other.

// CHECK-LABEL: kvcache.method @changes_nothing
kvcache.method @changes_nothing {
  // CHECK: kvcache.phase step_end () {
  // CHECK-NEXT: kvcache.next{{$}}
  kvcache.phase step_end () {
    kvcache.next
  }
}
