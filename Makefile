# make help tells what there is.
GO        ?= go
PREFIX    ?= /usr/local
VERSION   ?= $(patsubst v%,%,$(shell git describe --tags 2>/dev/null || sed -n 's/^var Version = "\(.*\)"/\1/p' cove.go))
COMMIT    ?= $(shell git describe --always --abbrev=40 --exclude='*' --dirty 2>/dev/null)
BUILT     ?= $(or $(SOURCE_DATE_EPOCH),$(shell git log -1 --format=%ct 2>/dev/null))
TAGS      := containers_image_openpgp,exclude_graphdriver_btrfs
NOUNS     := github.com/cove-engine/cove
LDFLAGS   := -s -w -X $(NOUNS).Version=$(VERSION) -X $(NOUNS).Commit=$(COMMIT) -X $(NOUNS).Built=$(BUILT)
export CGO_ENABLED := 0
# Where cove starts, to enter an ordinary user's namespace: internal/rootless.
ENTER     := -E cove_enter
BUILD      = $(GO) build -trimpath -buildvcs=false -tags $(TAGS) -ldflags '$(LDFLAGS) $(1)'

.PHONY: help run deps build install uninstall test reference runc conmon holes conformance exposure over lint bench fuzz guest guest-crun guest-kernels guest-selinux guest-bench crash damage storm density clean arm64

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# pack PROGRAM PACKAGE: into the package that carries it
pack = @sha256sum < $(BIN)/$(1) | cut -d' ' -f1 > internal/companion/$(2)/files/$(1).sum; gzip -9 -n < $(BIN)/$(1) > internal/companion/$(2)/files/$(1).gz
BIN := bin

build: ## bin/cove, one static file with its companions inside, and bin/cove-runtime
	@mkdir -p $(BIN)
	$(BUILD) -o $(BIN)/cove-monitor ./cmd/cove-monitor
	$(call pack,cove-monitor,monitor)
	$(call BUILD,$(ENTER)) -o $(BIN)/cove-runtime ./cmd/cove-runtime
	$(call pack,cove-runtime,runtime)
	$(BUILD) -o $(BIN)/hello ./cmd/hello
	$(call pack,hello,hello)
	$(call BUILD,$(ENTER)) -o $(BIN)/cove-full ./cmd/cove-full
	$(call pack,cove-full,full)
	$(call BUILD,$(ENTER)) -o $(BIN)/cove ./cmd/cove

# What tests build afterwards is to carry this machine's programs again.
arm64: ## the same for linux/arm64, into bin/arm64
	GOARCH=arm64 $(MAKE) build BIN=bin/arm64
	$(MAKE) build

install: ## bin/cove, bin/cove-runtime, shell completion and the unit that starts containers after a boot into PREFIX (and DESTDIR)
	install -D -m 755 bin/cove $(DESTDIR)$(PREFIX)/bin/cove
	install -m 755 bin/cove-runtime $(DESTDIR)$(PREFIX)/bin/cove-runtime
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	bin/cove completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/cove
	bin/cove completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_cove
	bin/cove completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/cove.fish
	for kind in system user; do install -d $(DESTDIR)$(PREFIX)/lib/systemd/$$kind; \
	  sed 's,@BINDIR@,$(PREFIX)/bin,' contrib/systemd/cove-restart.service > $(DESTDIR)$(PREFIX)/lib/systemd/$$kind/cove-restart.service; done
	if test -e /sbin/openrc-run; then install -d $(DESTDIR)/etc/init.d; \
	  sed 's,@BINDIR@,$(PREFIX)/bin,' contrib/openrc/cove-restart > $(DESTDIR)/etc/init.d/cove-restart; chmod 755 $(DESTDIR)/etc/init.d/cove-restart; fi
	if test -e /etc/apparmor.d/abi/4.0; then install -d $(DESTDIR)/etc/apparmor.d; \
	  sed 's,@BINDIR@,$(PREFIX)/bin,' contrib/apparmor/cove > $(DESTDIR)/etc/apparmor.d/cove; fi

uninstall: ## take away what install has put there
	rm -f $(DESTDIR)$(PREFIX)/bin/cove $(DESTDIR)$(PREFIX)/bin/cove-runtime $(DESTDIR)$(PREFIX)/share/bash-completion/completions/cove \
	  $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_cove $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/cove.fish \
	  $(DESTDIR)$(PREFIX)/lib/systemd/system/cove-restart.service $(DESTDIR)$(PREFIX)/lib/systemd/user/cove-restart.service \
	  $(DESTDIR)/etc/init.d/cove-restart $(DESTDIR)/etc/apparmor.d/cove

IMAGE ?= cove.local/hello
run: build ## build cove and run a container: make run [IMAGE=…]
	bin/cove run --rm $(IMAGE)

deps: ## what the tests need, by apt-get where it is missing
	@test/deps

# Scripts mostly wait: twice as many at once as there are processors.
SCRIPTS = $(GO) test -parallel $$((2*$$(nproc))) -timeout 80m -buildvcs=false -tags $(TAGS)
test: build deps ## every test; as root those of the engine too
	$(SCRIPTS) ./...

# podman one script after the other: all of root's share one name server.
reference: deps ## the scripts on podman and docker, which prove the scripts
	COVE_UNDER_TEST=podman $(GO) test -count=1 -parallel 1 -timeout 60m -buildvcs=false -tags $(TAGS) -run Script ./test
	COVE_UNDER_TEST=docker $(GO) test -count=1 -timeout 30m -buildvcs=false -tags $(TAGS) -run Script ./test

answers: ## record podman 5's answers anew, which TestAnswers compares cove's with (root; ten minutes)
	COVE_TEST_RECORD=1 GO='$(GO)' test/podman5 -test.run '^TestAnswers$$' -test.parallel 2

conformance: build deps ## runtime-tools' validation of cove-runtime beside runc's, into docs/conformance.txt (root; five minutes)
	GO='$(GO)' test/conformance/run > docs/conformance.txt; code=$$?; cat docs/conformance.txt; exit $$code

exposure: build deps ## what a container can see and do, beside podman's and docker's, into docs/exposure.txt
	COVE_TEST_TABLE=$(CURDIR)/docs/exposure.txt $(GO) test -count=1 -buildvcs=false -tags $(TAGS) -run Exposure ./test && cat docs/exposure.txt
# What is about images and their transfer, files of configuration, the store, names, lists and their forms: what
# makes the containers there is asked for nothing but to run a command.
# Nor what brings a runtime of its own.
BESIDE := bad_.*|bare_root|check_repair|checkpoint.*|cidfile|conf_.*|conmon_full|conmon_untold|container_prune|containers_conf.*|crash_driver|damaged_record|diff|events|export|formats_5|gvisor|host_command|journald|lock_type_exit|name_port|network_connect_ending|oci_runtime_.*|policy_missing|read_only_disk|two_at_once|update_health|verb_pairs|global_flags|image_.*|images|import|inspect|labels|lock_type|log_driver|log_place|migrate|name_conflict|no_conf.*|no_home|others_files|policy|ps|registry_.*|rename|rootless_storage_path|save_load|shared_store|storage_.*|system_.*|transient_store|two_stores|unshare|volume_named|volumes_from
runc: build deps ## the scripts that a runtime may fail, with runc as cove's OCI runtime (crun in a guest of cgroup v2)
	COVE_TEST_RUNTIME=$$(command -v runc) $(SCRIPTS) -count=1 -run 'TestScript$$' -skip '^TestScript$$/^($(BESIDE))$$' ./test

# What Debian 12's runc has not mended.
HOLED := 1.1.5+ds1-1+deb12u1
HOLES := Processes 2019_16884 2021_30465 2025_31133 2025_52565 2025_52881
empty :=
holes: deps ## the attacks of test/cve_test.go on a runc that they are known to work on: they are attacks
	@if runc --version | grep -q '$(HOLED)$$'; then COVE_RUNTIME_BINARY=$$(command -v runc) COVE_TEST_HOLES='$(HOLES)' \
	  $(GO) test -count=1 -buildvcs=false -tags $(TAGS) -run 'CVE($(subst $(empty) ,|,$(HOLES)))$$' ./test; \
	else echo 'holes: this is another runc than $(HOLED)'; fi

conmon: build deps ## the scripts with conmon as cove's monitor, over cove-runtime and over runc: make conmon [ONLY=REGEX]
	for runtime in '' $$(command -v runc); do COVE_TEST_MONITOR=conmon COVE_TEST_RUNTIME=$$runtime \
	  $(SCRIPTS) -count=1 -run 'TestScript$$/^($(or $(ONLY),.*))$$' ./test || exit 1; done

lint: ## gofmt, go vet and staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "gofmt: the files above"; exit 1; }
	$(GO) vet -tags $(TAGS) ./...
	GOFLAGS=-buildvcs=false $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.7.0 -tags $(TAGS) ./...

bench: build ## ratios to podman and docker, measured side by side
	bench/run

KILLS ?= 40
crash: build deps ## kill cove and what it starts at system calls, or have those fail: make crash [KILLS=N, 0 is all] [ONLY=REGEX] [SEED=N] [ROOTLESS=1] [ALONE=1] [AT=N] [PODMAN=1] [ERRNO=ENOSPC,EIO,ENOMEM,EMFILE,EAGAIN,EINTR] [LASTING=1]
	$(GO) build -buildvcs=false -o bin/crash ./crash
	PATH="$$(test/criu):$$PATH" bin/crash -kills $(KILLS) -only '$(ONLY)' $(if $(SEED),-seed $(SEED)) $(if $(ROOTLESS),-user) $(if $(ALONE),-alone) $(if $(PODMAN),-podman) $(if $(AT),-at $(AT)) \
	  $(if $(ERRNO),-errno $(ERRNO)) $(if $(LASTING),-lasting)

damage: build deps ## replace every file and directory that cove has written by each of seven things, and meet that: make damage [ONLY=REGEX] (root; half an hour)
	COVE_TEST_DAMAGE=0 COVE_TEST_DAMAGE_ONLY='$(ONLY)' $(GO) test -count=1 -timeout 3h -buildvcs=false -tags $(TAGS) -run '^TestDamage$$' ./test

STORM ?= 5m
storm: build deps ## 64 processes doing random commands at once, on both back ends with both kinds of locks: make storm [STORM=DURATION, each] [SEED=N]
	$(GO) build -buildvcs=false -o bin/storm ./storm
	for backend in boltdb sqlite; do for lock in file shm; do echo "$$backend, $$lock"; \
	  bin/storm -for $(STORM) -db-backend $$backend -lock-type $$lock $(if $(SEED),-seed $(SEED)) || exit 1; done; done

RUNNING ?= 500
CREATED ?= 5000
density: build deps ## how long commands take and what a container costs as they become more: make density [RUNNING=N] [CREATED=N]
	$(GO) build -buildvcs=false -o bin/storm ./storm
	bin/storm -density $(RUNNING) -created $(CREATED)

# Minimising an input that found something new costs up to a minute each, of none executed.
FUZZ ?= 20s
fuzz: ## every decoder of what others may write, some time each: make fuzz [FUZZ=DURATION] [ONLY=REGEX]
	@grep -rHo '^func Fuzz[A-Za-z]*' --include='*_test.go' . | sed 's,/[^/]*:func , ,' | grep -E '$(or $(ONLY),.)' | while read -r dir name; do \
	  echo "$$dir $$name"; $(GO) test -buildvcs=false -tags $(TAGS) -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ) -fuzzminimizetime 1x "$$dir" || exit 1; done

guest: build ## the scripts, a reboot and losses of power in a Debian 13 with systemd and cgroup v2 (root; half an hour)
	GO='$(GO)' test/guest/units
	GO='$(GO)' test/guest/scripts
	test/guest/reboot
	test/guest/power
	test/guest/outcomes
	test/guest/delegated
	test/guest/fifty
	test/guest/services
	test/guest/inside

# What is about the making of containers and their life, for CI and the guest.
LIFE := lifecycle|exec|tty|pause|update|run_.*|init|signals|stop_signals|start_fails|rm_flag|attach|detach|logs|top|stats|health|restart_policy|hooks|namespaces|limits|cgroup.*_limits|oom|crash_.*|oci_runtime|capabilities|security_opt|device|timeout|bind|volume_copyup|read_only|systemd_scope|wait|conmon
# podman one script after the other, as in reference.
over: build deps ## those on podman and docker over cove-runtime: make over [ONLY=REGEX]
	for engine in 'podman 1' 'docker 4'; do set -- $$engine; COVE_UNDER_TEST=$$1 COVE_TEST_RUNTIME=$(CURDIR)/bin/cove-runtime \
	  $(GO) test -count=1 -parallel $$2 -timeout 60m -buildvcs=false -tags $(TAGS) -run 'TestScript$$/^($(or $(ONLY),$(LIFE)))$$' ./test || exit 1; done

guest-crun: build ## the life cycle's scripts in that guest with crun, under cove's monitor and under conmon: make guest-crun [ONLY=REGEX]
	for monitor in '' conmon; do COVE_TEST_RUNTIME=/usr/bin/crun COVE_TEST_MONITOR=$$monitor \
	  GO='$(GO)' test/guest/scripts -test.run 'TestScript$$/^($(or $(ONLY),$(LIFE)))$$' || exit 1; done

guest-kernels: build ## scripts on Debian 12's and 13's own kernels with AppArmor, emulated: make guest-kernels [ONLY=REGEX] (root; slow)
	for suite in bookworm trixie; do COVE_GUEST_KERNEL=$$suite GO='$(GO)' test/guest/scripts -test.run 'TestScript$$/^($(or $(ONLY),apparmor|run_.*|exec|ports|pause|init|namespaces|volume_.*|cgroup_limits|network_own|checkpoint_tcp))$$' || exit 1; done
	test/guest/old

guest-selinux: build ## the script of SELinux on Debian 13's own kernel and policy, emulated (root; slow)
	GO='$(GO)' test/guest/selinux

guest-bench: build ## ratios to podman 5 with crun, in the same guest
	GO='$(GO)' test/guest/bench

clean: ## what was built
	rm -rf bin internal/companion/*/files/*.gz internal/companion/*/files/*.sum
