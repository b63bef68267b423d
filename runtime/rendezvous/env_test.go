package rendezvous

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestFromEnv(t *testing.T) {
	type env = map[string]string
	for _, c := range []struct {
		name string
		env  env
		want Place
		err  string
	}{
		{"torchrun", env{"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8", "MASTER_ADDR": "gpu7", "MASTER_PORT": "29500",
			"TORCHELASTIC_RUN_ID": "job", "TORCHELASTIC_RESTART_COUNT": "1"},
			Place{3, 8, 3, 8, "127.0.0.1:29501", "job/1", "RANK and WORLD_SIZE"}, ""},
		{"torchrun, two hosts", env{"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "gpu7", "MASTER_PORT": "29500",
			"TORCHELASTIC_RUN_ID": "job", "TORCHELASTIC_RESTART_COUNT": "0"},
			Place{3, 4, 1, 2, "gpu7:29501", "job/0", "RANK and WORLD_SIZE"}, ""},
		{"Kubernetes", env{"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456"},
			Place{1, 2, 1, 0, "job-master-0:23456", "/", "RANK and WORLD_SIZE"}, ""},
		{"an address of one's own", env{"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1", AddressEnv: "b:7"},
			Place{1, 2, 1, 0, "b:7", "/", "RANK and WORLD_SIZE"}, ""},
		{"mpirun, below Slurm", env{"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
			"OMPI_MCA_ess_base_jobid": "9", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "0"},
			Place{1, 2, 1, 2, "127.0.0.1:25542", "/9", "Open MPI"}, ""},
		{"mpirun, two hosts", env{"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"},
			Place{}, AddressEnv},
		{"hydra", env{"PMI_RANK": "5", "PMI_SIZE": "6", "MPI_LOCALRANKID": "2", "MPI_LOCALNRANKS": "3", "MASTER_ADDR": "h", "MASTER_PORT": "4000"},
			Place{5, 6, 2, 3, "h:4000", "//", "PMI"}, ""},
		{"srun", env{"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "1",
			"SLURM_STEP_NODELIST": "gpu[003-004]", "SLURM_STEP_NUM_NODES": "2"},
			Place{2, 4, 0, 0, "gpu003:27527", "77/1", "Slurm"}, ""},
		{"srun, one host", env{"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "2", "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "1",
			"SLURM_STEP_NODELIST": "gpu003", "SLURM_STEP_NUM_NODES": "1"},
			Place{2, 4, 2, 4, "127.0.0.1:27527", "77/1", "Slurm"}, ""},
		{"a batch script", env{"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "77"}, Place{}, "no launcher"},
		{"nothing", env{}, Place{}, "no launcher"},
		{"a rank that is no number", env{"RANK": "x", "WORLD_SIZE": "2"}, Place{}, `RANK="x"`},
		{"a negative rank", env{"RANK": "-1", "WORLD_SIZE": "2"}, Place{}, `RANK="-1"`},
		{"a bad port", env{"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "99999"}, Place{}, "MASTER_PORT"},
		{"no address", env{"RANK": "0", "WORLD_SIZE": "2"}, Place{}, AddressEnv},
	} {
		got, err := FromEnv(func(name string) string { return c.env[name] })
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %+v %v\nwant %+v", c.name, got, err, c.want)
		}
	}
	if _, err := FromEnv(func(string) string { return "" }); !errors.Is(err, ErrNoLauncher) {
		t.Errorf("got %v", err)
	}
}

func TestFirstHost(t *testing.T) {
	for list, want := range map[string]string{"a": "a", "a,b": "a", "gpu[003-008,011],x": "gpu003", "gpu[7]": "gpu7", "a,gpu[1-2]": "a", "": "", "gpu[": "gpu", "n[1,2]-ib": "n1"} {
		if got := firstHost(list); got != want {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
}

func TestLoadSecret(t *testing.T) {
	privateDir(t)
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		token, env, file string
		want             string
		loopback         bool
		err              string
	}{
		{token: "0123456789abcdef", env: "another secret of ours", want: "0123456789abcdef"},
		{env: "another secret of ours", want: "another secret of ours"},
		{file: file("good", "a secret in a file\n", 0o600), want: "a secret in a file"},
		{file: file("open", "a secret in a file\n", 0o644), err: "chmod 600"},
		{file: file("short", "short\n", 0o600), err: "at least 16"},
		{file: filepath.Join(dir, "none"), err: "no such file"},
		{file: dir, err: "want a file"},
		{token: "short", err: "at least 16"},
		{loopback: true},
	} {
		got, loopback, err := LoadSecret(c.token, func(name string) string { return map[string]string{TokenEnv: c.env, TokenFileEnv: c.file}[name] })
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if err != nil || loopback != c.loopback || c.want != "" && string(got) != c.want {
			t.Errorf("%+v: %q %v %v", c, got, loopback, err)
		}
	}

	// All processes of the user have one key, whoever makes it.
	keys := make([]string, 20)
	os.Remove(filepath.Join(os.Getenv(DirEnv), "key"))
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			key, _, err := LoadSecret("", func(string) string { return "" })
			if keys[i] = string(key); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys {
		if k != keys[0] || len(k) < 32 {
			t.Fatalf("keys %q", keys)
		}
	}
	if info, err := os.Stat(filepath.Join(os.Getenv(DirEnv), "key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v %v", info, err)
	}
	if files, _ := os.ReadDir(os.Getenv(DirEnv)); len(files) != 1 {
		t.Errorf("left behind: %v", files)
	}
}

// TestNoToken: without a token a group forms over loopback, with the user's key.
func TestNoToken(t *testing.T) {
	t.Setenv(TokenEnv, "")
	t.Setenv(TokenFileEnv, "")
	gathers(t, mustJoin(t, 2, func(_ int, c *Config) { c.Token = "" }))
}

// TestPrivateDir: a directory that others can enter, or that is somebody
// else's, or a link, is not used.
func TestPrivateDir(t *testing.T) {
	base := t.TempDir()
	use := func(name string) error {
		t.Setenv(DirEnv, filepath.Join(base, name))
		_, err := PrivateDir()
		return err
	}
	if err := use("new"); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(base, "new")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("made with %v, %v", info.Mode(), err)
	}
	if err := use("new"); err != nil {
		t.Error(err)
	}
	os.Mkdir(filepath.Join(base, "open"), 0o700)
	os.Chmod(filepath.Join(base, "open"), 0o750)
	os.Symlink(filepath.Join(base, "new"), filepath.Join(base, "link"))
	os.WriteFile(filepath.Join(base, "file"), nil, 0o600)
	bad := []string{"open", "link", "file", "no/where"}
	os.Mkdir(filepath.Join(base, "foreign"), 0o700)
	if os.Chown(filepath.Join(base, "foreign"), 4242, 4242) == nil {
		bad = append(bad, "foreign") // only root can try this
	} else {
		t.Log("SKIPPED: a directory of another user (needs root)")
	}
	for _, name := range bad {
		if err := use(name); err == nil || !strings.Contains(err.Error(), DirEnv) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
