package seccomp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// compiler is the version of this compiler and of the cache's format: to be
// raised with every change of the programs that it makes.
const compiler = "cove seccomp 1"

// Cache is a folder of compiled programs, made on first use. Nothing in it is
// precious: it may be removed at any time. A folder or file that others could
// have written is not trusted, one that is damaged is not used; trouble with
// the folder costs the time of compiling and is no error.
type Cache struct{ Dir string }

// Default is the program of the default profile for t. When it is cached the
// profile is not even built.
func (c Cache) Default(t Target) (Program, error) {
	t.Kernel = Kernel{} // the default profile does not ask
	return c.get(t, "default", []byte(DefaultProfile), func() (*specs.LinuxSeccomp, error) { return Default(t) })
}

// Profile is the program of a profile in docker's or OCI's JSON format for t.
// Its BPF is nil when the profile switches seccomp off.
func (c Cache) Profile(text []byte, t Target) (Program, error) {
	return c.get(t, "profile", text, func() (*specs.LinuxSeccomp, error) { return Parse(text, t) })
}

// Spec is the program of a runtime spec's seccomp section for arch.
func (c Cache) Spec(s *specs.LinuxSeccomp, arch string) (Program, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return Program{}, invalid(err)
	}
	return c.get(Target{Arch: arch}, "spec", text, func() (*specs.LinuxSeccomp, error) { return s, nil })
}

func (c Cache) get(t Target, kind string, content []byte, resolve func() (*specs.LinuxSeccomp, error)) (Program, error) {
	k := keyOf(t, kind, content)
	dir, err := openDir(c.Dir)
	if err == nil {
		defer dir.Close()
		if p, ok := read(dir, k); ok {
			return p, nil
		}
	}
	s, err := resolve()
	if err != nil {
		return Program{}, err
	}
	if s == nil && kind != "spec" {
		return Program{}, nil
	}
	p, err := Compile(s, t.Arch)
	if err == nil && dir != nil {
		write(dir, k, p)
	}
	return p, err
}

// key is the SHA-256 sum of all that a program depends on.
type key [sha256.Size]byte

func (k key) name() string { return hex.EncodeToString(k[:]) }

// keyOf hashes the inputs, each with its length in front.
func keyOf(t Target, kind string, content []byte) key {
	b := make([]byte, 0, 1024)
	add := func(s string) {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	add(compiler)
	add(kind)
	add(t.Arch)
	b = binary.BigEndian.AppendUint64(b, uint64(t.Kernel.Major))
	b = binary.BigEndian.AppendUint64(b, uint64(t.Kernel.Minor))
	caps := slices.Compact(slices.Sorted(slices.Values(t.Caps)))
	b = binary.BigEndian.AppendUint64(b, uint64(len(caps)))
	for _, name := range caps {
		add(name)
	}
	sum := sha256.Sum256(content)
	return sha256.Sum256(append(b, sum[:]...))
}

// A cache file is: magic, key, flags (4 bytes, big endian), program, and the
// SHA-256 sum of all that.
const (
	magic     = "cove-bpf"
	headLen   = len(magic) + sha256.Size + 4
	fileLimit = headLen + unix.BPF_MAXINSNS*8 + sha256.Size
)

// encode gives the content of the file of p under k.
func encode(k key, p Program) []byte {
	b := append([]byte(magic), k[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(p.Flags))
	b = append(b, p.BPF...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decode is the reverse; ok is false for anything that encode did not make
// for k.
func decode(k key, b []byte) (p Program, ok bool) {
	body := len(b) - sha256.Size
	if body <= headLen || len(b) > fileLimit || (body-headLen)%8 != 0 {
		return p, false
	}
	sum := sha256.Sum256(b[:body])
	if !bytes.Equal(sum[:], b[body:]) || string(b[:len(magic)]) != magic || !bytes.Equal(b[len(magic):headLen-4], k[:]) {
		return p, false
	}
	p.Flags = uint(binary.BigEndian.Uint32(b[headLen-4:]))
	p.Notify = p.Flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
	p.BPF = b[headLen:body:body]
	return p, true
}

// openDir opens the folder, making it if need be, when it can be trusted.
func openDir(path string) (*os.File, error) {
	if !filepath.IsAbs(path) {
		return nil, errors.New("path of the cache is not absolute")
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags, 0)
	if errors.Is(err, unix.ENOENT) {
		if err = os.MkdirAll(path, 0o700); err != nil {
			return nil, err
		}
		fd, err = unix.Open(path, flags, 0)
	}
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(fd), path)
	if err := trusted(fd, unix.S_IFDIR); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

// trusted says whether nobody but root and ourselves could have written what
// fd is.
func trusted(fd int, kind uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != kind || st.Mode&0o022 != 0 || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("owner %d and mode %#o are not to be trusted", st.Uid, st.Mode)
	}
	return nil
}

// read gives the program under k, if there is one to be trusted.
func read(dir *os.File, k key) (Program, bool) {
	fd, err := unix.Openat(int(dir.Fd()), k.name(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return Program{}, false
	}
	f := os.NewFile(uintptr(fd), k.name())
	defer f.Close()
	if trusted(fd, unix.S_IFREG) != nil {
		return Program{}, false
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(fileLimit)+1))
	if err != nil {
		return Program{}, false
	}
	return decode(k, b)
}

// write puts p under k. A file that is cut short by a crash fails its
// checksum, so nothing waits for the disk; and as the name of the temporary
// file is fixed, a killed writer leaves at most one, which the next takes
// away. Failure costs the next start its time, no more.
func write(dir *os.File, k key, p Program) {
	at, temp := int(dir.Fd()), k.name()+".tmp"
	_ = unix.Unlinkat(at, temp, 0)
	fd, err := unix.Openat(at, temp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), temp)
	_, err = f.Write(encode(k, p))
	if errors.Join(err, f.Close()) == nil {
		err = unix.Renameat(at, temp, at, k.name())
	}
	if err != nil {
		_ = unix.Unlinkat(at, temp, 0)
	}
}
