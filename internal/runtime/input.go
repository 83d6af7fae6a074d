package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// mostInput is how much is read of what a caller gives, in bytes: a spec with the
// longest profiles has a hundredth of it.
const mostInput = 16 << 20

// ReadInput reads a section of a spec that the caller gives to op, as in "read
// process": a file, a pipe, or what he sends.
func ReadInput(op, name string, from io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(from, mostInput+1))
	if err == nil && len(data) > mostInput {
		err = fmt.Errorf("is longer than %d bytes", mostInput)
	}
	if err != nil {
		return nil, cove.E(op, name, cove.Invalid, err)
	}
	return data, nil
}

// ReadInputFile is ReadInput of a file.
func ReadInputFile(op, name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, cove.E(op, name, cove.NoFile, err)
	}
	defer f.Close()
	return ReadInput(op, name, f)
}

// readConfig reads a bundle's config.json, which is a file and nothing that its
// reader waits for.
func readConfig(bundle string) (data []byte, path string, err error) {
	const op = "read spec"
	path = filepath.Join(bundle, "config.json")
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", cove.E(op, path, kindOf(err), err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("is not a regular file")
	}
	if err != nil {
		return nil, "", cove.E(op, path, cove.Invalid, err)
	}
	data, err = ReadInput(op, path, f)
	return data, path, err
}
