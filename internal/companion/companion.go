// Package companion holds the programs that cove carries inside itself, so
// that one file is all there is to install, and puts them where they can be
// executed.
package companion

import (
	"compress/gzip"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// The programs' names.
const (
	Monitor = "cove-monitor" // beside every container: monitor, init and exec
	Full    = "cove-full"    // cove with the image libraries, which take longer to start than a container
)

//go:embed files
var files embed.FS

// Program gives the path of a program in dir, put there if need be. Its file
// name carries its checksum, so releases do not get in each other's way, and
// it is used only if nobody but this user and root could have written it.
// elsewhere are directories to look in when cove was built without it.
func Program(dir, name string, elsewhere []string) (string, error) {
	sum, err := files.ReadFile("files/" + name + ".sum")
	if err != nil {
		return installed(name, elsewhere)
	}
	want := strings.TrimSpace(string(sum))
	path := filepath.Join(dir, name+"-"+want[:min(16, len(want))])
	if trusted(path) {
		return path, nil
	}
	if err := unpack(dir, path, name, want); err != nil {
		return "", cove.E("unpack", path, cove.Internal, err)
	}
	return path, nil
}

// installed finds a program that a package has put into one of the folders.
func installed(name string, dirs []string) (string, error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", cove.E("find", name, cove.NotFound, errors.New("this cove was built without it (make build puts it in), and it is in none of helper_binaries_dir"))
}

// trusted tells whether the file can be executed as it is. Only a whole one is
// ever there: it is renamed into place.
func trusted(path string) bool {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return false
	}
	owner := st.Uid == 0 || int(st.Uid) == os.Geteuid()
	return owner && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o022 == 0 && st.Mode&0o100 != 0
}

// unpack writes the program beside its place, checks it and renames it.
func unpack(dir, path, name, want string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	packed, err := files.Open("files/" + name + ".gz")
	if err != nil {
		return err
	}
	defer packed.Close()
	in, err := gzip.NewReader(packed)
	if err != nil {
		return err
	}
	temp := path + ".new-" + rand.Text()[:8]
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o700)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, hash), in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want {
		return fmt.Errorf("checksum is %s, not %s", got, want)
	}
	if err = os.Chmod(temp, 0o755); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
