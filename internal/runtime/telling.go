package runtime

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/cove-engine/cove"
)

// Telling is how the caller learns which process was made.
type Telling struct {
	PIDFile     string
	PIDFDSocket string // is sent the process by descriptor
}

// tell tells. what is the word beside the descriptor, which is runc's:
// "standard" for a container's first process and "setns" for another.
func (t *Telling) tell(k *child, what string) error {
	if t.PIDFDSocket != "" {
		if err := sendFD(t.PIDFDSocket, what, k.pidfd); err != nil {
			return cove.E("send process descriptor to", t.PIDFDSocket, kindOf(err), err)
		}
	}
	return writePIDFile(t.PIDFile, k.pid)
}

func writePIDFile(path string, pid int) error {
	if path == "" {
		return nil
	}
	// Whoever looks for it finds a whole number in it.
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	// What is there already was left by one that was killed, or leads elsewhere.
	_ = os.Remove(temp)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, err = f.WriteString(strconv.Itoa(pid))
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return cove.E("write pid file", path, cove.Internal, err)
	}
	return nil
}
