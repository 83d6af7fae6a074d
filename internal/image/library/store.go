package library

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"go.podman.io/common/libimage"
	"go.podman.io/common/pkg/config"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	imagestorage "go.podman.io/image/v5/storage"
	imagetypes "go.podman.io/image/v5/types"
	"go.podman.io/storage"
	storagetypes "go.podman.io/storage/types"
	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/index"
	_ "github.com/cove-engine/cove/internal/image/library/btrfs" // the driver
)

// Store is the local image store. Its methods may be called from any
// goroutine. [Open] makes one; a process that ends need not close it.
type Store struct {
	opts     image.Options
	read     *storagetypes.StoreOptions // nil before storage.conf is read
	location func() (storagetypes.StoreOptions, error)
	library  func() (*library, error)
	closing  sync.Once
	opened   storage.Store // under stores; nil before
}

// library is the opened store of the libraries.
type library struct {
	runtime *libimage.Runtime
	store   storage.Store
	// readOnly tells that the images' file system is: see overReadOnly.
	readOnly bool
}

// Open names the store without touching it.
func Open(opts image.Options) *Store {
	s := &Store{opts: opts}
	s.location = sync.OnceValues(s.locate)
	s.library = sync.OnceValues(s.open)
	return s
}

// OpenRead is Open for who has read storage.conf: reading it again would warn again.
func OpenRead(opts image.Options, read storagetypes.StoreOptions) *Store {
	s := Open(opts)
	s.read = &read
	return s
}

// locate lays the options over what storage.conf says.
func (s *Store) locate() (o storagetypes.StoreOptions, err error) {
	if s.read != nil {
		o = *s.read
	} else if o, err = storagetypes.LoadStoreOptions(storagetypes.LoadOptions{}); err != nil {
		return o, cove.E("read storage configuration", "", cove.Invalid, plain(err))
	}
	set(&o.GraphRoot, s.opts.GraphRoot)
	set(&o.RunRoot, s.opts.RunRoot)
	set(&o.GraphDriverName, s.opts.Driver)
	set(&o.ImageStore, s.opts.ImageStore)
	if s.opts.DriverOptions != nil {
		o.GraphDriverOptions = s.opts.DriverOptions
	}
	// Else the driver binds its directory to itself, which outlasts the command.
	o.GraphDriverOptions = slices.Concat(o.GraphDriverOptions, []string{"overlay.skip_mount_home=true"})
	// The library's own containers are pins, which last; what a transient store
	// is about are cove's.
	o.TransientStore = false
	for _, p := range []*string{&o.GraphRoot, &o.RunRoot, &o.ImageStore} {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return o, cove.E("open image store", *p, cove.Internal, err)
		}
	}
	return o, nil
}

// set overrides to when there is something to override it with.
func set(to *string, from string) {
	if from != "" {
		*to = from
	}
}

// stores is held while the storage library's list of opened stores is used or
// changed: its own lock is not taken by Free.
var stores sync.Mutex

// open opens the libraries' store.
func (s *Store) open() (*library, error) {
	stores.Lock()
	defer stores.Unlock()
	o, err := s.location()
	if err != nil {
		return nil, err
	}
	if err := roomForFiles(); err != nil {
		return nil, cove.E("open image store", o.GraphRoot, cove.Unavailable, err)
	}
	// Modules are laid over what the library finds by itself.
	files := slices.DeleteFunc(slices.Clone(s.opts.ContainersConf), func(name string) bool {
		_, err := os.Stat(name)
		return errors.Is(err, fs.ErrNotExist) // by now
	})
	if _, err := config.New(&config.Options{Modules: files, SetDefault: true}); err != nil {
		return nil, cove.E("read configuration", "", cove.Invalid, plain(err))
	}
	sys := s.systemContext()
	if sys.BigFilesTemporaryDir, err = transferDir(o.GraphRoot, sys.BigFilesTemporaryDir); err != nil {
		return nil, fail("open image store", o.GraphRoot, err)
	}
	images := o.GraphRoot
	readOnly, err := overReadOnly(&o)
	if err != nil {
		return nil, fail("open image store", images, err)
	}
	nameLinks(cmp.Or(o.ImageStore, o.GraphRoot))
	watched()
	st, err := storage.GetStore(o)
	if err != nil {
		return nil, fail("open image store", o.GraphRoot, err)
	}
	s.opened = st
	dropTemporaries(st)
	dropTrials(st)
	imagestorage.Transport.SetStore(confined{st})
	rt, err := libimage.RuntimeFromStore(confined{st}, &libimage.RuntimeOptions{SystemContext: sys})
	if err != nil {
		return nil, fail("open image store", o.GraphRoot, err)
	}
	return &library{runtime: rt, store: confined{st}, readOnly: readOnly}, nil
}

// Close forgets the opened store, so that another one reads storage.conf
// again. What has begun goes on.
func (s *Store) Close() {
	s.closing.Do(func() {
		stores.Lock()
		defer stores.Unlock()
		if s.opened != nil {
			s.opened.Free()
		}
	})
}

// Forget makes the process read registries.conf again when it is needed: the
// library keeps it for stores to come.
func Forget() { sysregistriesv2.InvalidateCache() }

// Replace puts s in old's place in a process that goes on: the libraries read
// their configuration files again. When it fails old is as good as before.
func (s *Store) Replace(old *Store) error {
	if _, err := sysregistriesv2.TryUpdatingCache(s.systemContext()); err != nil {
		return cove.E("read registries.conf", "", cove.Invalid, plain(err))
	}
	if _, err := config.Reload(); err != nil {
		return cove.E("read configuration", "", cove.Invalid, plain(err))
	}
	old.Close()
	return nil
}

// systemContext carries the options to the image library.
func (s *Store) systemContext() *imagetypes.SystemContext {
	auth := s.opts.AuthFile
	if auth == "" {
		// The library does not know the variable itself.
		auth = os.Getenv("REGISTRY_AUTH_FILE")
	}
	policy, registries := s.opts.SignaturePolicy, s.opts.RegistriesConf
	if policy == "" {
		policy = s.policy()
	}
	if registries == "" {
		registries = s.fallback("registries.conf", registriesEnv)
	}
	return &imagetypes.SystemContext{
		SignaturePolicyPath:         policy,
		SystemRegistriesConfPath:    registries,
		SystemRegistriesConfDirPath: s.opts.RegistriesConfDir,
		AuthFilePath:                auth,
		DockerCertPath:              s.opts.CertDir,
		BigFilesTemporaryDir:        s.opts.TmpDir,
		DockerRegistryUserAgent:     "cove/" + cove.Version,
	}
}

// graphRoot gives the graph root; it reads storage.conf when the options do
// not say.
func (s *Store) graphRoot() (string, error) {
	if filepath.IsAbs(s.opts.GraphRoot) {
		return filepath.Clean(s.opts.GraphRoot), nil
	}
	o, err := s.location()
	return o.GraphRoot, err
}

// indexDir gives the directory of cove's index.
func (s *Store) indexDir() (string, error) {
	if s.opts.IndexDir != "" {
		return s.opts.IndexDir, nil
	}
	root, err := s.graphRoot()
	return filepath.Join(root, "cove", "images"), err
}

// Ready is always so.
func (s *Store) Ready() error { return nil }

// Hold keeps images from being removed by cove until release is called. The
// engine holds from before Resolve until the container's record is durable.
func (s *Store) Hold(ctx context.Context) (release func() error, err error) {
	dir, err := s.indexDir()
	if err != nil {
		return nil, err
	}
	release, err = index.Hold(ctx, dir)
	if err != nil {
		return nil, cove.E("hold images", "", kind(err), err)
	}
	return release, nil
}

// mostFiles is more than the libraries open at once. Where one cannot be opened
// they do not always say so: of a lock's file they panic, and what they undo on
// the way out may want that lock.
const mostFiles = 64

// roomForFiles tells whether this process may open so many files more.
func roomForFiles() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err == nil && uint64(len(open)+mostFiles) > limit.Cur {
		err = fmt.Errorf("%w: %d are open of %d that may be, and it takes %d more", unix.EMFILE, len(open), limit.Cur, mostFiles)
	}
	return err
}
