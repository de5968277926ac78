from time import perf_counter

from service.inference.ticket import Ticket


def test_a_deadline_counts_from_when_the_request_came_in():
    ticket = Ticket(timeout_s=2.5)

    assert ticket.deadline == ticket.started + 2.5


def test_without_a_time_limit_there_is_no_deadline():
    assert Ticket().deadline == float("inf")


def test_a_new_ticket_starts_now_with_no_times_and_no_way_to_leave():
    before = perf_counter()

    ticket = Ticket()

    assert before <= ticket.started <= perf_counter()
    assert (ticket.parse_s, ticket.queue_s, ticket.infer_s, ticket.render_s) == (0, 0, 0, 0)
    assert ticket.give_up is None
