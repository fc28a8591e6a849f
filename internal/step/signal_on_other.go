//go:build walqsteps && !unix

package step

import (
	"errors"
	"os"
)

func killSelf() error {
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	return self.Kill()
}

func stopSelf() error { return errors.ErrUnsupported }
