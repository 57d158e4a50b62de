// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The arena: disjoint zeroed pages, exact accounts, memory back to the system, a status when it is
// full.

#include "runtime/cache/Arena.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <sys/mman.h>
#include <unistd.h>

namespace kvcache::rt {

/// Bytes of the arena that are in memory now.
static int64_t residentBytes(const Arena &arena, int64_t bytes) {
  int64_t page = sysconf(_SC_PAGESIZE);
  std::vector<unsigned char> resident(bytes / page);
  EXPECT_EQ(mincore(arena.base(), static_cast<size_t>(bytes), resident.data()), 0);
  int64_t count = 0;
  for (unsigned char flag : resident) {
    count += flag & 1;
  }
  return count * page;
}

TEST(Arena, RandomPagesAreDisjointZeroAndCounted) {
  auto arena = Arena::create();
  ASSERT_TRUE(arena.isOk()) << arena.status().message();
  const int64_t sizes[] = {64, 320, 4100, 16448, 70000};
  std::vector<int32_t> classes;
  for (int64_t size : sizes) {
    classes.push_back((*arena)->sizeClass(size));
    EXPECT_EQ((*arena)->sizeClass(size), classes.back());
  }
  Arena::Account accounts[2];
  struct Page {
    int which, owner;
  };
  std::map<int64_t, Page> pages;
  std::mt19937 random(1);
  for (int step = 0; step < 4000; ++step) {
    if (pages.empty() || random() % 1000 < (step < 2000 ? 600u : 400u)) {
      int which = static_cast<int>(random() % 5), owner = static_cast<int>(random() % 2);
      int64_t offset = -1;
      ASSERT_TRUE((*arena)->allocate(classes[which], accounts[owner], offset).isOk());
      ASSERT_EQ(offset % 64, 0);
      auto next = pages.lower_bound(offset);
      ASSERT_TRUE(next == pages.end() || offset + sizes[which] <= next->first);
      ASSERT_TRUE(next == pages.begin() ||
                  std::prev(next)->first + sizes[std::prev(next)->second.which] <= offset);
      const char *data = (*arena)->base() + offset;
      ASSERT_TRUE(data[0] == 0 && std::memcmp(data, data + 1, sizes[which] - 1) == 0);
      std::memset((*arena)->base() + offset, 0xee, sizes[which]);
      pages[offset] = {which, owner};
    } else {
      auto victim = std::next(pages.begin(), random() % pages.size());
      (*arena)->release(classes[victim->second.which], accounts[victim->second.owner],
                        victim->first);
      pages.erase(victim);
    }
  }
  int64_t expected[2] = {0, 0};
  for (auto &[offset, page] : pages) {
    expected[page.owner] += Arena::pageFootprint(sizes[page.which]);
  }
  EXPECT_EQ(accounts[0].bytes, expected[0]);
  EXPECT_EQ(accounts[1].bytes, expected[1]);
  EXPECT_EQ((*arena)->bytesInUse(), expected[0] + expected[1]);
  EXPECT_EQ(accounts[0].pages + accounts[1].pages, static_cast<int64_t>(pages.size()));
}

TEST(Arena, FreedPagesGoBackToTheSystem) {
  auto arena = Arena::create();
  ASSERT_TRUE(arena.isOk());
  int32_t pages = (*arena)->sizeClass(16448);
  Arena::Account account;
  std::vector<int64_t> offsets(900);
  for (int64_t &offset : offsets) {
    ASSERT_TRUE((*arena)->allocate(pages, account, offset).isOk());
    std::memset((*arena)->base() + offset, 1, 16448);
  }
  int64_t range = 300 * 65536;
  EXPECT_GE(residentBytes(**arena, range), account.bytes);
  for (int64_t offset : offsets) {
    (*arena)->release(pages, account, offset);
  }
  EXPECT_EQ(account.bytes, 0);
  EXPECT_LE((*arena)->bytesCommitted(), 65536);
  EXPECT_LE(residentBytes(**arena, range), 65536);
}

TEST(Arena, FullIsAStatusAndLeavesTheRestUsable) {
  auto arena = Arena::create(256 << 10);
  ASSERT_TRUE(arena.isOk());
  int32_t big = (*arena)->sizeClass(60000);
  Arena::Account account;
  std::vector<int64_t> offsets(4);
  for (int64_t &offset : offsets) {
    ASSERT_TRUE((*arena)->allocate(big, account, offset).isOk());
  }
  int64_t more = 0;
  Status status = (*arena)->allocate(big, account, more);
  EXPECT_EQ(status.code(), StatusCode::Unavailable);
  EXPECT_NE(status.message().find("addresses reserved"), std::string::npos) << status.message();
  EXPECT_EQ(account.pages, 4);
  (*arena)->release(big, account, offsets[2]);
  ASSERT_TRUE((*arena)->allocate(big, account, more).isOk());
  EXPECT_EQ(more, offsets[2]);
}

} // namespace kvcache::rt
