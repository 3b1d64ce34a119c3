package cruster_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/cruster-go/cruster"
)

// Trip books a flight and a hotel, or neither.
type Trip struct {
	_ cruster.Workflow `cruster:"trip"`
	_ cruster.Activity `cruster:"BookHotel,retries=2,backoff=constant,initial=1ms"`
}

type TripRequest struct{ Traveller, City string }

// CrusterKey makes all starts for one traveller and city the same execution.
func (r TripRequest) CrusterKey() string { return r.Traveller + "/" + r.City }

// Execute is deterministic: everything that touches the world is a step.
func (t *Trip) Execute(wf *cruster.WorkflowContext, req TripRequest) (string, error) {
	flight, err := cruster.Do(wf, (*Trip).BookFlight, req.City)
	if err != nil {
		return "", err
	}
	wf.OnFailure(func(wf *cruster.WorkflowContext) error {
		return cruster.DoErr(wf, (*Trip).CancelFlight, flight)
	})
	if err := cruster.Sleep(wf, 10*time.Millisecond); err != nil { // could be a month
		return "", err
	}
	hotel, err := cruster.Do(wf, (*Trip).BookHotel, req.City)
	if err != nil {
		return "", err
	}
	return flight + " and " + hotel, nil
}

func (t *Trip) BookFlight(ctx context.Context, city string) (string, error) {
	fmt.Println("book a flight to", city)
	return "flight to " + city, nil
}

func (t *Trip) CancelFlight(ctx context.Context, flight string) error {
	fmt.Println("cancel the", flight)
	return nil
}

func (t *Trip) BookHotel(ctx context.Context, city string) (string, error) {
	fmt.Printf("book a hotel in %s, attempt %d\n", city, cruster.Attempt(ctx))
	if city == "Atlantis" {
		return "", errors.New("no such place")
	}
	return "hotel in " + city, nil
}

// A workflow's steps are journaled. When it fails, its compensations run, the
// last first.
func ExampleRegisterWorkflow() {
	ctx := context.Background()
	svc, err := cruster.New(cruster.Config{})
	if err != nil {
		log.Fatal(err)
	}
	trips, err := cruster.RegisterWorkflow(svc, &Trip{})
	if err != nil {
		log.Fatal(err)
	}
	if err := svc.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer svc.Shutdown(ctx)

	for _, city := range []string{"Rome", "Rome", "Atlantis"} {
		booked, err := trips.Execute(ctx, TripRequest{Traveller: "Ada", City: city})
		fmt.Printf("%s: %q, %v\n", city, booked, err)
	}
	// Output:
	// book a flight to Rome
	// book a hotel in Rome, attempt 1
	// Rome: "flight to Rome and hotel in Rome", <nil>
	// Rome: "flight to Rome and hotel in Rome", <nil>
	// book a flight to Atlantis
	// book a hotel in Atlantis, attempt 1
	// book a hotel in Atlantis, attempt 2
	// book a hotel in Atlantis, attempt 3
	// cancel the flight to Atlantis
	// Atlantis: "", no such place
}
