-- Sums that tell a row from what the disk may make of it later. `conversations/sums.rs` says over what.
alter table conversation add column sum integer;
alter table message add column sum integer;
