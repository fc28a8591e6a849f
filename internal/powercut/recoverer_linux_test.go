package powercut

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/walq/walq"
)

// recoverEnv names the queue for a process that is to recover it.
const recoverEnv = "WALQ_POWERCUT_RECOVER"

func TestMain(m *testing.M) {
	dir := os.Getenv(recoverEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	if err := recoverAndPut(context.Background(), dir, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// recoverAndPut is `walq put --ack` after a restart of the machine. The kernel
// was not restarted, and its boot id says so: Snapshot asks for what another one
// would.
func recoverAndPut(ctx context.Context, dir string, in io.Reader) (err error) {
	q, err := walq.Open(ctx, dir, walq.Options{Snapshot: true, Create: &walq.QueueOptions{SegmentSize: 64 << 10}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		seq, err := q.Append(ctx, lines.Bytes())
		if err != nil {
			return err
		}
		fmt.Println(seq)
	}
	return lines.Err()
}
