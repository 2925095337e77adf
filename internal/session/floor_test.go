package session

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Tokens begin at the floor, and none is told before a floor above it is written.
func TestFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(memStore)
		ahead := uint64(time.Now().UnixMicro()) + 1<<40 // of the clock
		store.floor = ahead
		store.stop(true)
		cfg := testConfig()
		cfg.Store, cfg.Floor = store, ahead
		h := keptHub(t, cfg)
		a := dialKept(t, h, "a")
		a.sayAll("0 g x", 0)
		if a.st.Early() == 0 {
			t.Error("it comes before the floor is written")
		}
		time.Sleep(time.Second)
		if a.st.Early() == 0 {
			t.Error("a second later it is not early any more")
		}
		store.stop(false)
		time.Sleep(10 * time.Millisecond)
		if _, floor := store.stored(); a.st.Early() != 0 || floor <= ahead {
			t.Errorf("it is early when the floor is %d ahead", floor-ahead)
		}
		if token := number(a.say("0 t x")); token <= ahead {
			t.Errorf("the token is %d, the floor was %d", token, ahead)
		}
		// It is raised long before the tokens reach it.
		for token := ahead; token < ahead+5*floorAhead; token += floorAhead / 16 {
			a.st.granted(token)
			if _, floor := store.stored(); token >= floor && a.st.Early() == 0 {
				t.Fatalf("%d is told where the floor is %d", token, floor)
			}
			time.Sleep(time.Millisecond)
			if a.st.Early() != 0 {
				t.Fatalf("%d is early a millisecond later", token)
			}
		}
		if raises := len(store.log); raises > 15 {
			t.Errorf("it was written %d times", raises)
		}
		a.end()
		h.Close()
	})
}

// Where the floor cannot be written the grants rest on the time, as without a file, and
// it is tried now and then.
func TestFloorThatCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(memStore)
		store.fill(true)
		h := storedHub(t, store)
		a := dialKept(t, h, "a")
		for i := range 100 {
			a.expect(fmt.Sprintf("0 g %d", i), fmt.Sprintf(`0 \d+ Lock Get Success: %d`, i))
		}
		a.st.granted(h.clock.microseconds() + 2_000_000)
		if a.st.Early() == 0 {
			t.Error("a token that is ahead of the clock is not early")
		}
		time.Sleep(2 * time.Second)
		if a.st.Early() != 0 {
			t.Error("it is early when its time has come")
		}
		store.fill(false)
		a.st.granted(h.clock.microseconds() + 2_000_000)
		a.st.Early()
		time.Sleep(10 * time.Millisecond)
		if a.st.Early() != 0 {
			t.Error("it is early though the floor could be written")
		}
		a.end()
		h.Close()
	})
}

// A pause lasts as long as it is to, wherever the floor is.
func TestPauseBelowTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, floor := new(memStore), uint64(time.Now().UnixMicro())+1<<40
		store.floor = floor
		cfg := testConfig()
		cfg.Store, cfg.Floor = store, floor
		h := keptHub(t, cfg)
		a := dialKept(t, h, "a")
		time.Sleep(10 * time.Millisecond)
		a.st.granted(floor)
		a.st.pause(3 * time.Millisecond)
		if early := a.st.Early(); early != 3*time.Millisecond {
			t.Errorf("it pauses for %v", early)
		}
		time.Sleep(3 * time.Millisecond)
		if early := a.st.Early(); early != 0 {
			t.Errorf("it pauses for %v more", early)
		}
		a.end()
		h.Close()
	})
}
