package library_test

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.podman.io/image/v5/pkg/sysregistriesv2"

	"github.com/cove-engine/cove/internal/image"
	"github.com/cove-engine/cove/internal/image/library"
	"github.com/cove-engine/cove/internal/image/registrytest"
)

// registriesProof is a registries.conf in which a key acts: with it the pull of
// name succeeds or, for refused, fails with that text in its error.
type registriesProof struct {
	text    string // REG stands for a registry without TLS
	name    string
	refused string
}

const (
	nobody = "127.0.0.1:1" // where no registry is
	plain  = "\n[[registry]]\nlocation = 'REG'\ninsecure = true\n"
	missed = "connection refused"
)

var registriesProofs = map[string][]registriesProof{
	"location":                      {{"[[registry]]\nprefix = 'example.test/team'\nlocation = 'REG'\ninsecure = true", "example.test/team/app:1", ""}},
	"prefix":                        {{"[[registry]]\nprefix = '*.wild.test'\nblocked = true", "a.wild.test/app:1", "blocked"}},
	"insecure":                      {{plain, "REG/app:1", ""}, {"[[registry]]\nlocation = 'REG'", "REG/app:1", "HTTP response to HTTPS client"}},
	"blocked":                       {{"[[registry]]\nlocation = 'REG'\ninsecure = true\nblocked = true", "REG/app:1", "blocked"}},
	"mirror":                        {{"[[registry]]\nlocation = '" + nobody + "'\n[[registry.mirror]]\nlocation = 'REG'\ninsecure = true", nobody + "/app:1", ""}},
	"mirror-by-digest-only":         {{"[[registry]]\nlocation = '" + nobody + "'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'REG'\ninsecure = true", nobody + "/app:1", missed}},
	"pull-from-mirror":              {{"[[registry]]\nlocation = '" + nobody + "'\n[[registry.mirror]]\nlocation = 'REG'\ninsecure = true\npull-from-mirror = 'digest-only'", nobody + "/app:1", missed}},
	"unqualified-search-registries": {{"unqualified-search-registries = ['REG']" + plain, "app:1", ""}, {"unqualified-search-registries = []" + plain, "app:1", "short-name"}},
	"short-name-mode": {
		{"short-name-mode = 'enforcing'\nunqualified-search-registries = ['" + nobody + "', 'REG']" + plain, "app:1", "short-name resolution enforced"},
		{"short-name-mode = 'disabled'\nunqualified-search-registries = ['" + nobody + "', 'REG']" + plain, "app:1", ""},
		{"short-name-mode = 'whatever'", "app:1", "whatever"},
	},
	"aliases":    {{"[aliases]\nthing = 'REG/app'" + plain, "thing:1", ""}},
	"registry":   nil,                                                                                // all of the above
	"registries": {{"[registries.search]\nregistries = ['REG']\n", "app:1", "must be in v2 format"}}, // of old

	"credential-helpers":                 nil, // TestCredentialHelper
	"additional-layer-store-auth-helper": nil, // such stores are refused
}

// Every key of registries.conf acts.
func TestRegistriesConf(t *testing.T) {
	for _, of := range []reflect.Type{reflect.TypeFor[sysregistriesv2.V2RegistriesConf](), reflect.TypeFor[sysregistriesv2.Registry](), reflect.TypeFor[sysregistriesv2.Endpoint]()} {
		for i := range of.NumField() {
			key, _, _ := strings.Cut(of.Field(i).Tag.Get("toml"), ",")
			if _, known := registriesProofs[key]; key != "" && !known {
				t.Errorf("%s: the library reads it, and the table says nothing of it", key)
			}
		}
	}
	reg := registrytest.Start(t, registrytest.Options{})
	p, ctx := newPlace(t), context.Background()
	p.mustLoad(t, small(t, "localhost/app:1"))
	_, err := p.Push(ctx, "localhost/app:1", reg.Addr+"/app:1", image.PushOptions{Transfer: noRetry()})
	must(t, err)
	_, err = p.Remove(ctx, nil, image.RemoveOptions{All: true}, nil)
	must(t, err)
	once := image.PullOptions{Policy: "always"}
	once.Retries = new(uint)
	for key, proofs := range registriesProofs {
		for _, c := range proofs {
			// In the file itself, and in one that is laid over it.
			for _, file := range []string{p.opts.RegistriesConf, filepath.Join(p.opts.RegistriesConfDir, "x.conf")} {
				if key == "registries" && file != p.opts.RegistriesConf {
					continue // of old there were none
				}
				must(t, os.WriteFile(p.opts.RegistriesConf, nil, 0o600))
				must(t, os.WriteFile(file, []byte(strings.ReplaceAll(c.text, "REG", reg.Addr)), 0o600))
				library.Forget()
				_, err := p.again().Pull(ctx, strings.ReplaceAll(c.name, "REG", reg.Addr), once)
				if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%s in %s: %v, want %q", key, filepath.Base(file), err, c.refused)
				}
				must(t, os.Remove(file))
				_, err = p.again().Remove(ctx, nil, image.RemoveOptions{All: true}, nil)
				must(t, err)
			}
		}
	}
}

// A program that knows the credentials.
func TestCredentialHelper(t *testing.T) {
	reg := registrytest.Start(t, registrytest.Options{TLS: true, User: "joe", Password: "secret"})
	p, ctx := newPlace(t), context.Background()
	p.mustLoad(t, small(t, "localhost/app:1"))
	_, err := p.Push(ctx, "localhost/app:1", reg.Addr+"/app:1", image.PushOptions{Transfer: image.Transfer{CertDir: reg.CertDir, Creds: "joe:secret", Retries: new(uint)}})
	must(t, err)
	bin := t.TempDir()
	must(t, os.WriteFile(filepath.Join(bin, "docker-credential-proof"), []byte("#!/bin/sh\necho '{\"Username\":\"joe\",\"Secret\":\"secret\"}'\n"), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	o := image.PullOptions{Transfer: image.Transfer{CertDir: reg.CertDir, Retries: new(uint)}, Policy: "always"}
	for conf, ok := range map[string]bool{"": false, "credential-helpers = ['proof']\n": true} {
		must(t, os.WriteFile(p.opts.RegistriesConf, []byte(conf), 0o600))
		library.Forget()
		if _, err := p.again().Pull(ctx, reg.Addr+"/app:1", o); (err == nil) != ok {
			t.Errorf("%q: %v", conf, err)
		}
	}
}
