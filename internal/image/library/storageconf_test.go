package library_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/registrytest"
)

// What storage.conf says of how layers are to be seen, and cove cannot do, is
// refused by its name.
func TestStorageConfRefused(t *testing.T) {
	bin := t.TempDir() // the library looks whether it is there
	must(t, os.WriteFile(filepath.Join(bin, "mkcomposefs"), []byte("#!/bin/true\n"), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	for name, text := range map[string]string{
		"force_mask":            "[storage.options]\nforce_mask = 0o755",
		"overlay.force_mask":    "[storage.options.overlay]\nforce_mask = '755'",
		"overlay.use_composefs": "[storage.options.overlay]\nuse_composefs = 'true'",
		"additionallayerstore":  "[storage.options]\nadditionallayerstores = ['DIR']", // the key: additionallayerstores
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.mustLoad(t, small(t, "localhost/app:1"))
			p.Close()
			appendStorageConf(t, strings.ReplaceAll(text, "DIR", t.TempDir()))
			_, err := p.again().Resolve(context.Background(), "localhost/app:1", "")
			wantKind(t, err, cove.Unsupported)
			if !strings.Contains(fmt.Sprint(err), name+"=") {
				t.Error(err)
			}
		})
	}
}

// pull_options go to the library, which refuses what it cannot do.
func TestPullOptions(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{})
	p, ctx := newPlace(t, func(o *image.Options) { o.Driver = "vfs" }), context.Background()
	p.mustLoad(t, small(t, "localhost/app:1"))
	_, err := p.Push(ctx, "localhost/app:1", reg.Addr+"/app:1", image.PushOptions{Transfer: noRetry()})
	must(t, err)
	_, err = p.Remove(ctx, []string{"localhost/app:1"}, image.RemoveOptions{}, nil)
	must(t, err)
	p.Close()
	appendStorageConf(t, "[storage.options.pull_options]\nenable_partial_images = 'true'\nconvert_images = 'true'")
	_, err = p.again().Pull(ctx, reg.Addr+"/app:1", image.PullOptions{Transfer: noRetry()})
	if err == nil || !strings.Contains(err.Error(), "convert_images") {
		t.Error(err)
	}
}

func appendStorageConf(t *testing.T, text string) {
	t.Helper()
	f, err := os.OpenFile(os.Getenv("CONTAINERS_STORAGE_CONF"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString(text + "\n")
	must(t, err)
	must(t, f.Close())
}
