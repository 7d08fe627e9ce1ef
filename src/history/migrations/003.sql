-- Messages have an id of their own (16 hexadecimal digits, unique in their conversation) and parts; what a model thought is a
-- column. `text` is what can be searched: all of a message but its files. Checksums and the mark of a chat go.
alter table message add column id text not null default '';
update message set id = lower(hex(randomblob(8)));
create unique index message_by_id on message (conversation, id);

alter table message add column thinking text;
update message
set thinking = json_extract(answer, '$.thinking'), answer = json_remove(answer, '$.thinking')
where json_valid(answer) and json_type(answer, '$.thinking') = 'text';

-- JSON, null for a message that is nothing but its text.
alter table message rename column attachments to parts;
update message set parts = null where not json_valid(parts);
update message
set parts = (select json_group_array(json_patch('{"type":"file"}', value)) from json_each(parts))
where parts is not null;
update message
set parts = json_insert(parts, '$[#]', json_object('type', 'text', 'text', text))
where parts is not null and text <> '';

alter table message drop column sum;
alter table conversation drop column sum;
alter table conversation drop column interactive;
