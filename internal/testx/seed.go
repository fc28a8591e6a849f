package testx

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Seed returns the seed of a test that acts at random, and logs how to run the
// test with the same one again: a number from WALQ_SEED if that is set, a new
// one otherwise.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if value := os.Getenv("WALQ_SEED"); value != "" {
		var err error
		if seed, err = strconv.ParseUint(value, 0, 64); err != nil {
			t.Fatalf("WALQ_SEED: %v", err)
		}
	}
	t.Logf("seed %d; again with WALQ_SEED=%[1]d", seed)
	return seed
}
