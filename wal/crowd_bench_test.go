package wal

import (
	"fmt"
	"sync"
	"testing"
)

// BenchmarkAppendCrowd is of several goroutines of one handle.
func BenchmarkAppendCrowd(b *testing.B) {
	for _, size := range []int{100, 1 << 10} {
		for _, crowd := range []int{2, 8, 64} {
			b.Run(fmt.Sprintf("%dB/%d", size, crowd), func(b *testing.B) {
				l, body := benchLog(b, SyncNever, 64<<20), make([]byte, size)
				b.ReportAllocs()
				var wg sync.WaitGroup
				for range crowd {
					wg.Go(func() {
						for range b.N / crowd {
							if _, err := l.Append(nil, body); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
			})
		}
	}
}
